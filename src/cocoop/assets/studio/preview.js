// One image, large, with all that is said of it. Arrows go on, number keys label.

import { find, make, say } from "./dom.js";
import { stand } from "./grid.js";
import { items, onItems, want } from "./items.js";
import { acceptSelected, labelSelected, redo, undo } from "./labels.js";
import { labelByKey } from "./names.js";
import { onSelection, select, selection } from "./selection.js";
import { colour } from "./state.js";
import { chances } from "./chances.js";
import { count } from "./words.js";
import { view } from "./view.js";

const dialog = find("preview");
const parts = {
  path: make("h2", { id: "preview-path" }),
  place: make("p", { class: "hint" }),
  image: make("img", { alt: "" }),
  label: make("p", { class: "label", role: "status" }),
  guesses: make("ol", { class: "chances", "aria-label": "Likeliest names" }),
};

/** Open the large view at a place of the list. */
export function lookAt(place) {
  select(place);
  if (!dialog.firstChild) build();
  draw();
  dialog.showModal();
}

function build() {
  const step = (by, words, sign) =>
    make(
      "button",
      { type: "button", "aria-label": words, title: words, autofocus: by === 1, click: () => go(by) },
      sign,
    );
  dialog.append(
    make(
      "header",
      {},
      parts.path,
      parts.place,
      step(-1, "Previous image", "←"),
      step(1, "Next image", "→"),
      make("button", { type: "button", click: () => dialog.close() }, "Close"),
    ),
    make("div", { class: "large" }, parts.image),
    make("footer", {}, parts.label, parts.guesses),
  );
}

function go(by) {
  const place = selection.focus + by;
  if (place >= 0 && place < view.ids.length) select(place);
}

function draw() {
  const id = view.ids[selection.focus];
  if (id === undefined) return dialog.close();
  want([id]);
  const item = items.get(id);
  const source = `api/image/${id}`;
  if (parts.image.getAttribute("src") !== source) parts.image.setAttribute("src", source);
  say(parts.path, item?.path ?? "…");
  parts.place.textContent = `${count(selection.focus + 1)} of ${count(view.ids.length)}`;
  const label = item?.label ?? null;
  parts.label.replaceChildren(
    make("i", { class: "chip", "data-colour": label === null ? "none" : colour(label) }),
    label ?? "No label yet",
  );
  parts.guesses.replaceChildren(...chances(item?.suggestion ?? []));
}

const KEYS = {
  ArrowLeft: () => go(-1),
  ArrowUp: () => go(-1),
  ArrowRight: () => go(1),
  ArrowDown: () => go(1),
  a: acceptSelected,
  Delete: () => labelSelected(null),
  Backspace: () => labelSelected(null),
};

dialog.addEventListener("keydown", (event) => {
  const controlled = event.ctrlKey || event.metaKey;
  if (controlled && event.key === "z") undo();
  else if (controlled && event.key === "y") redo();
  else if (controlled || event.altKey) return;
  else if (/^[1-9]$/.test(event.key)) labelByKey(Number(event.key));
  else if (event.key in KEYS) KEYS[event.key]();
  else return;
  event.preventDefault();
});
dialog.addEventListener("close", stand);
const redraw = () => dialog.open && draw();
onItems(redraw);
onSelection(redraw);
