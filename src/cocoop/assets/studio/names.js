// The classes: each with its colour, its key, how many images have it as their label, and how many perhaps.

import { announce, find, make, say } from "./dom.js";
import { show } from "./grid.js";
import { labelSelected } from "./labels.js";
import { editor, plain, put } from "./naming.js";
import { onSelection, selection } from "./selection.js";
import { colour, onState, poll, state } from "./state.js";
import { count, lines, many, split } from "./words.js";

const KEYS = 9; // classes with a number key
const list = find("names");
let edited = { name: null, form: null }; // the class whose form is open
let shown = "";

/** Give the selected images the label of the class that a number key stands for. */
export function labelByKey(digit) {
  const wanted = state.names[digit - 1];
  if (wanted) labelSelected(wanted.name);
  else announce(`There is no class number ${digit}.`);
}

async function add(event) {
  event.preventDefault();
  if (state.version === null) await poll(); // else what is there already would come after
  const field = find("name");
  const typed = field.value;
  const known = new Set(state.names.map(({ name }) => name));
  const added = split(typed).filter((name) => !known.has(name));
  if (!added.length) return say(find("name-problem"), typed.trim() ? "That class is there already." : "");
  const taken = await put([...state.names.map(plain), ...added.map((name) => ({ name }))], find("name-problem"));
  if (!taken) return;
  if (field.value === typed) field.value = "";
  announce(`${many(added.length, "class", "classes")} added.`);
}

function row(one, place) {
  const key = place < KEYS ? String(place + 1) : null;
  const give = make(
    "button",
    {
      type: "button",
      class: "give",
      "aria-keyshortcuts": key,
      title: `${one.name}: give it to the selected images`,
      disabled: !selection.ids.size,
      click: () => labelSelected(one.name),
    },
    make("i", { class: "chip", "data-colour": colour(one.name) }),
    make("span", { class: "name" }, one.name),
    make("kbd", { "aria-hidden": "true" }, key ?? ""),
  );
  const see = make(
    "button",
    {
      type: "button",
      class: "count",
      title: "Labelled, and suggested",
      "aria-label": `Show ${one.name}: ${many(one.count, "label")}, ${many(one.suggested, "suggestion")}`,
      click: () => show({ view: "all", label: one.name }),
    },
    make("b", {}, count(one.count)),
    one.suggested ? make("span", {}, `+${count(one.suggested)}`) : null,
  );
  const open = edited.name === one.name;
  const change = make(
    "button",
    {
      type: "button",
      class: "edit",
      "aria-label": `Edit ${one.name}`,
      title: "Edit",
      "aria-expanded": String(open),
      click: () => edit(open ? null : one, one.name),
    },
    "⋯",
  );
  return make(
    "li",
    {},
    make("div", { class: "class" }, give, see, change),
    one.problem ? make("p", { class: "problem" }, one.problem) : null,
    open ? edited.form : null,
  );
}

/** Open the form of one class, or close it; the keyboard goes with it. */
function edit(one, back) {
  edited = one ? { name: one.name, form: editor(one, (name) => edit(null, name)) } : { name: null, form: null };
  shown = "";
  draw();
  if (one) edited.form.querySelector("input").focus();
  else (buttonCalled(`Edit ${back}`) ?? find("name")).focus();
}

const buttonCalled = (label) =>
  [...list.querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === label);

function draw() {
  const key = JSON.stringify([state.names, selection.ids.size > 0]);
  if (key === shown) return;
  if (shown && edited.form?.contains(document.activeElement)) return; // not under the typing hand
  shown = key;
  const held = list.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  list.replaceChildren(...state.names.map(row));
  if (held) buttonCalled(held)?.focus();
  find("names-empty").hidden = state.names.length > 0;
}

find("name-form").addEventListener("submit", add);
find("name").addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text");
  if (!text.includes("\n")) return;
  event.preventDefault(); // a field of one line would run the lines together
  event.target.setRangeText(lines(text).join(", "), event.target.selectionStart, event.target.selectionEnd, "end");
});
onState(draw);
onSelection(draw);
