// On a narrow screen one part of the page is shown at a time.

import { find } from "./dom.js";
import { onView } from "./view.js";

const buttons = [...find("panes").querySelectorAll("button")];

/** Show one part; on a wide screen all stand beside each other anyway. */
function show(pane) {
  document.body.dataset.pane = pane;
  for (const button of buttons) button.setAttribute("aria-current", button.dataset.pane === pane);
}

for (const button of buttons) button.addEventListener("click", () => show(button.dataset.pane));
onView((what) => what === "opened" && show("images"));
show("images");
