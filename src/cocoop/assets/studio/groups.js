// Images that look alike, a group beside the other: each can be labelled at one stroke.

import { newest, ask as askOnce, query } from "./api.js";
import { announce, find, make, say } from "./dom.js";
import { show } from "./grid.js";
import { label } from "./labels.js";
import { onState, state } from "./state.js";
import { onView, view, VIEWS } from "./view.js";
import { count, many, percent } from "./words.js";

const ask = newest();
let version = null;
const chosen = new Map(); // group -> the name that was chosen for it

async function draw() {
  const here = view.query.view === "groups";
  find("groups").hidden = !here;
  if (!here || version === state.version) return;
  version = state.version;
  try {
    const answer = await ask("GET", "groups");
    if (!answer || view.query.view !== "groups") return;
    const { groups } = answer;
    drawGroups(groups);
    say(find("empty"), groups.length ? "" : VIEWS.find(([name]) => name === "groups")[2]);
  } catch (error) {
    version = null;
    say(find("empty"), error.message);
  }
}

function drawGroups(groups) {
  const held = document.activeElement?.closest?.("#groups [data-held]")?.dataset.held;
  find("groups").replaceChildren(...groups.map(card));
  if (held)
    find("groups")
      .querySelector(`[data-held="${CSS.escape(held)}"]`)
      ?.focus();
}

function card({ group, count: number, unlabelled, ids, suggestion }) {
  const title = `Group ${group + 1}`;
  const pictures = ids.map((id) =>
    make("img", { src: `api/thumb/${id}`, alt: "", loading: "lazy", draggable: "false" }),
  );
  const choice = make(
    "select",
    {
      "aria-label": `Label for ${title}`,
      "data-held": `choice-${group}`,
      change: () => chosen.set(group, choice.value),
    },
    ...state.names.map(({ name }) => make("option", { value: name }, name)),
  );
  const listed = (wanted) => state.names.some(({ name }) => name === wanted);
  const guess = [chosen.get(group), suggestion?.name].find(listed);
  if (guess !== undefined) choice.value = guess;
  const give = make(
    "button",
    { type: "button", "data-held": `give-${group}`, click: () => labelGroup(group, choice.value) },
    unlabelled === number ? `Label all ${count(number)}` : `Label the other ${count(unlabelled)}`,
  );
  choice.disabled = give.disabled = !state.names.length || !unlabelled;
  return make(
    "section",
    { class: "group", "aria-label": title },
    make(
      "header",
      {},
      make("h3", {}, title),
      make(
        "p",
        { class: "hint" },
        many(number, "image") + (suggestion ? `, perhaps ${suggestion.name} (${percent(suggestion.p)})` : ""),
      ),
      make("div", { class: "row" }, choice, give),
    ),
    make(
      "button",
      {
        type: "button",
        class: "strip",
        "aria-label": `Look at ${title}`,
        "data-held": `look-${group}`,
        click: () => show({ view: "all", group }),
      },
      ...pictures,
    ),
  );
}

async function labelGroup(group, name) {
  try {
    const { ids } = await askOnce("GET", query("ids", { view: "unlabelled", group }));
    label(ids, name);
  } catch (error) {
    announce(error.message);
    say(find("label-problem"), error.message);
  }
}

onView((what) => {
  if (what === "opened") version = null;
  draw();
});
onState(draw);
