// The keyboard: what moves in the grid, what labels, and the list of it all.

import { find, make } from "./dom.js";
import { reach, stand } from "./grid.js";
import { acceptSelected, labelSelected, redo, undo } from "./labels.js";
import { labelByKey } from "./names.js";
import { pick } from "./picker.js";
import { lookAt } from "./preview.js";
import { extend, select, selectAll, selection, selectNone, toggle } from "./selection.js";
import { renew, view } from "./view.js";

const LIST = [
  ["Arrows, Page Up, Page Down, Home, End", "go through the images"],
  ["Shift with these, or with a click", "select a range"],
  ["Space, or Ctrl with a click", "take an image into the selection or out of it"],
  ["Ctrl-A, Escape", "select all, or none"],
  ["1 to 9", "label the selected images and go on"],
  ["L", "choose the label by its name"],
  ["A", "accept the suggestion"],
  ["Delete", "take the label off"],
  ["Ctrl-Z, Ctrl-Y", "undo, redo"],
  ["Enter, or a double click", "look at the image"],
  ["U", "update the order"],
  ["/", "add a class"],
  ["?", "show this list"],
];

const MOVES = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: () => -reach().row,
  ArrowDown: () => reach().row,
  PageUp: () => -reach().page,
  PageDown: () => reach().page,
  Home: () => -Infinity,
  End: () => Infinity,
};

const COMMANDS = {
  a: acceptSelected,
  l: pick,
  u: renew,
  Delete: () => labelSelected(null),
  Backspace: () => labelSelected(null),
  "/": () => find("name").focus(),
  "?": showKeys,
};

const writes = (element) => element.closest("input, textarea, select, [contenteditable]") && element.type !== "range";

function move(event) {
  const place = selection.focus + MOVES[event.key]();
  if (event.key.startsWith("Arrow") && !(place in view.ids)) return; // an arrow does not leave its row or column
  if (event.shiftKey) extend(place);
  else select(place);
  stand();
}

function inGrid(event) {
  if (event.key in MOVES) move(event);
  else if (event.key === " ") toggle(selection.focus);
  else if (event.key === "Enter") lookAt(selection.focus);
  else if (event.key === "Escape") selectNone();
  else if (event.key === "a" && (event.ctrlKey || event.metaKey)) selectAll();
  else return false;
  return true;
}

function anywhere(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" && !event.shiftKey) undo();
    else if (key === "y" || key === "z") redo();
    else return false;
    return true;
  }
  if (event.altKey) return false;
  if (/^[1-9]$/.test(key)) labelByKey(Number(key));
  else if (key in COMMANDS) COMMANDS[key]();
  else return false;
  return true;
}

/** Single keys count on the images alone, so that speaking or typing elsewhere does not label. */
function onKey(event) {
  if (event.defaultPrevented || writes(event.target)) return;
  const grid = event.target.closest("#grid");
  if (document.querySelector("dialog[open]")) return;
  const here =
    grid ||
    event.target === document.body ||
    event.target === find("images") ||
    event.ctrlKey ||
    event.metaKey ||
    event.key === "?";
  if ((grid && inGrid(event)) || (here && anywhere(event))) event.preventDefault();
}

/** Show what the keys do. */
export function showKeys() {
  const dialog = find("keys");
  const rows = LIST.map(([keys, words]) => make("tr", {}, make("th", { scope: "row" }, keys), make("td", {}, words)));
  dialog.replaceChildren(
    make("h2", { id: "keys-title" }, "Keys"),
    make("table", {}, make("tbody", {}, ...rows)),
    make("form", { method: "dialog" }, make("button", { class: "main" }, "Close")),
  );
  dialog.showModal();
}

document.addEventListener("keydown", onKey);
find("grid").addEventListener("dblclick", (event) => event.target.closest(".tile") && lookAt(selection.focus));
find("help").addEventListener("click", showKeys);
find("undo").addEventListener("click", undo);
find("redo").addEventListener("click", redo);
