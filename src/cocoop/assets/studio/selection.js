// Which images are selected, and on which one the keyboard stands. As in a file manager: moving selects.

import { onView, view } from "./view.js";

export const selection = { ids: new Set(), focus: 0, anchor: 0 };

const listeners = [];

export const onSelection = (listener) => listeners.push(listener);

/** Select one image alone and stand on it. */
export function select(place) {
  selection.focus = selection.anchor = bound(place);
  hold([view.ids[selection.focus]]);
}

/** Stand on an image without selecting it. */
export function standOn(place) {
  if (place === selection.focus) return;
  selection.focus = selection.anchor = place;
  hold(selection.ids);
}

/** Select from where the selection began to here. */
export function extend(place) {
  selection.focus = bound(place);
  const [first, last] = [selection.anchor, selection.focus].sort((a, b) => a - b);
  hold(view.ids.slice(first, last + 1));
}

/** Take one image into the selection or out of it, and stand on it. */
export function toggle(place) {
  selection.focus = selection.anchor = bound(place);
  const id = view.ids[selection.focus];
  const ids = new Set(selection.ids);
  if (!ids.delete(id)) ids.add(id);
  hold(ids);
}

export const selectAll = () => hold(view.ids);

export const selectNone = () => hold([]);

/** Select these images, as far as they are shown, and stand on the first. */
export function selectIds(ids) {
  const places = ids.map((id) => view.places.get(id)).filter((place) => place !== undefined);
  if (!places.length) return;
  selection.focus = selection.anchor = Math.min(...places);
  hold(places.map((place) => view.ids[place]));
}

/** Select what comes after the selection: the next image to look at. */
export function advance() {
  let last = selection.focus;
  for (const id of selection.ids) last = Math.max(last, view.places.get(id) ?? 0);
  select(last + 1);
}

/** The selected images in the order shown; where none is, the one that the keyboard stands on. */
export function selected() {
  if (selection.ids.size) return view.ids.filter((id) => selection.ids.has(id));
  return document.activeElement?.closest("#grid") ? [view.ids[selection.focus]] : [];
}

const bound = (place) => Math.max(0, Math.min(place, view.ids.length - 1));

function hold(ids) {
  selection.ids = new Set([...ids].filter((id) => id !== undefined));
  for (const listener of listeners) listener();
}

let stoodOn;

onView((what) => {
  if (what === "opened") {
    Object.assign(selection, { focus: 0, anchor: 0 });
    hold([]);
  } else if (what === "renewed") {
    selection.focus = selection.anchor = bound(view.places.get(stoodOn) ?? selection.focus);
    hold([...selection.ids].filter((id) => view.places.has(id)));
  }
});

onSelection(() => {
  stoodOn = view.ids[selection.focus];
});
