// The tabs over the images, and the line under them that says what is shown and what can be done with it.

import { find, make, say } from "./dom.js";
import { resize } from "./grid.js";
import { items, onItems } from "./items.js";
import { acceptSelected, labelSelected, MOST } from "./labels.js";
import { onSelection, selection } from "./selection.js";
import { onState, state } from "./state.js";
import { moves, onView, open, renew, view, VIEWS } from "./view.js";
import { count, many } from "./words.js";

const tabs = new Map();

function build() {
  for (const [name, words] of VIEWS) {
    const number = make("span", { class: "number" });
    const tab = make(
      "button",
      {
        type: "button",
        role: "tab",
        id: `tab-${name}`,
        "aria-controls": "panel",
        click: () => open({ view: name }),
      },
      words,
      number,
    );
    tabs.set(name, { tab, number });
    find("views").append(tab);
  }
  find("views").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    const names = [...tabs.keys()];
    const place = (names.indexOf(view.query.view) + by + names.length) % names.length;
    open({ view: names[place] });
    tabs.get(names[place]).tab.focus();
    event.preventDefault();
  });
}

function drawTabs() {
  for (const [name, { tab, number }] of tabs) {
    const here = name === view.query.view;
    tab.setAttribute("aria-selected", here);
    tab.tabIndex = here ? 0 : -1;
    tab.hidden = name === "unreadable" && !state.unreadable && !here;
    const known = state.counts?.[name];
    number.textContent = known === null || known === undefined ? "" : count(known);
    if (here) find("panel").setAttribute("aria-labelledby", tab.id);
  }
}

/** What is shown, when it is not simply a tab. */
function filtered() {
  const { label: name, group, true: label, predicted } = view.query;
  if (name !== undefined) return `labelled or suggested as ${name}`;
  if (label !== undefined) return `labelled ${label} that the model calls ${predicted}`;
  if (group !== undefined) return "of one group";
  return "";
}

function drawBar() {
  const chosen = selection.ids.size;
  const words = filtered();
  const some = view.total > view.ids.length ? `the first ${count(view.ids.length)} of ` : "";
  const total = `${some}${many(view.total, "image")} ${words}`.trim();
  const grouped = view.query.view === "groups";
  find("shown").textContent = grouped ? "" : chosen > 1 ? `${total}, ${count(chosen)} selected` : total;
  find("all").hidden = !words;
  find("renew").hidden = grouped || !view.touched || !moves();
  find("renew").textContent = `Update the list, ${many(view.touched, "label")} changed`;
  const chosenItems = chosen && chosen <= MOST ? [...selection.ids].map((id) => items.get(id)) : [];
  const unknown = chosenItems.includes(undefined); // out of sight, and never looked at
  const offers = chosenItems.filter((item) => item?.label === null && item.suggestion.length).length;
  find("accept").hidden = !offers;
  find("accept").textContent =
    offers === 1 && !unknown ? "Accept the suggestion" : `Accept ${unknown ? "the" : count(offers)} suggestions`;
  const labels = chosenItems.filter((item) => item && item.label !== null).length;
  find("unlabel").hidden = !labels;
  find("unlabel").textContent =
    labels === 1 && !unknown ? "Take the label off" : `Take ${unknown ? "the" : count(labels)} labels off`;
}

function drawEmpty() {
  const [, , words] = VIEWS.find(([name]) => name === view.query.view);
  const grouped = view.query.view === "groups";
  const none = !grouped && !view.ids.length;
  say(find("empty"), none ? view.problem || (view.loading ? "" : filtered() ? "No image is here now." : words) : "");
  find("scroller").hidden = grouped || none;
  find("bar").hidden = grouped;
}

build();
onState(drawTabs);
onView(() => {
  drawTabs();
  drawEmpty();
  drawBar();
});
onSelection(drawBar);
onItems(drawBar);
find("all").addEventListener("click", () => open({ view: "all" }));
find("renew").addEventListener("click", renew);
find("accept").addEventListener("click", acceptSelected);
find("unlabel").addEventListener("click", () => labelSelected(null));
find("size").addEventListener("input", (event) => resize(Number(event.target.value)));
