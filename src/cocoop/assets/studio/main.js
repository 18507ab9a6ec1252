// The page of the studio: each part wires itself to what is on the page, then the first state is asked for.

import "./notices.js";
import "./views.js";
import "./groups.js";
import "./names.js";
import "./keys.js";
import "./training.js";
import "./results.js";
import "./trying.js";
import "./saving.js";
import "./adding.js";
import "./panes.js";
import { poll } from "./state.js";

poll();
