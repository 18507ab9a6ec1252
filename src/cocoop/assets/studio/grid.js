// The images as a grid of which only the rows in sight are in the page, whatever their number.

import { find, make } from "./dom.js";
import { items, onItems, want } from "./items.js";
import { extend, onSelection, select, selection, standOn, toggle } from "./selection.js";
import { dropTile, fillTile, makeTile } from "./tile.js";
import { onView, open, view } from "./view.js";

const CAPTION = 30; // pixels under an image
const GAP = 8;
const BEYOND = 2; // rows above and below what is in sight

const grid = find("grid");
const scroller = find("scroller");
const rows = new Map(); // number of a row -> its element
let size = 140;
let columns = 0;
let width = 0;
let drawing = 0;

/** How many places a key moves: down a row, down a page. */
export const reach = () => ({
  row: columns,
  page: columns * Math.max(1, Math.floor(scroller.clientHeight / height())),
});

/** Put the keyboard on the image that the selection stands on, in sight. */
export function stand() {
  if (!view.ids.length) return;
  const top = Math.floor(selection.focus / columns) * height();
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  const below = top + height() + GAP - scroller.clientHeight;
  if (below > scroller.scrollTop) scroller.scrollTop = below;
  draw();
  tileAt(selection.focus)?.focus({ preventScroll: true });
}

/** Show other images and put the keyboard on the first. */
export async function show(wanted) {
  await open(wanted);
  select(0);
  stand();
}

/** Draw tiles of another size. */
export function resize(pixels) {
  size = pixels;
  lay(true);
}

const height = () => size + CAPTION + GAP;

function tileAt(place) {
  return rows.get(Math.floor(place / columns))?.children[place % columns];
}

/** Settle how many columns fit, and begin anew where that has changed. */
function lay(anew) {
  if (!scroller.clientWidth) return; // hidden
  width = scroller.clientWidth;
  const fit = Math.max(1, Math.floor((width - GAP) / (size + GAP)));
  if (anew || fit !== columns) {
    const first = Math.floor(scroller.scrollTop / height()) * columns;
    rows.forEach(remove);
    columns = fit;
    grid.style.setProperty("--columns", columns);
    grid.style.setProperty("--size", `${size}px`);
    grid.setAttribute("aria-colcount", columns);
    spread();
    scroller.scrollTop = Math.floor(first / columns) * height();
  }
  drawSoon();
}

function spread() {
  const count = Math.ceil(view.ids.length / columns);
  grid.setAttribute("aria-rowcount", count);
  grid.style.height = `${count * height() + GAP}px`;
}

function remove(row, number) {
  for (const tile of row.children) dropTile(tile);
  row.remove();
  rows.delete(number);
}

function add(number) {
  const row = make("div", { role: "row", class: "line", "aria-rowindex": number + 1 });
  row.style.top = `${number * height() + GAP}px`;
  const before = [...rows.keys()].filter((other) => other < number);
  const cells = Math.min(columns, view.ids.length - number * columns);
  for (let column = 0; column < cells; column += 1) row.append(makeTile(number * columns + column, column));
  if (before.length) rows.get(Math.max(...before)).after(row);
  else grid.prepend(row); // the order of the page is the order seen
  rows.set(number, row);
}

function draw() {
  drawing = 0;
  if (!columns || !width) return;
  const last = Math.ceil(view.ids.length / columns) - 1;
  const from = Math.max(0, Math.floor(scroller.scrollTop / height()) - BEYOND);
  const to = Math.min(last, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height()) + BEYOND);
  const stands = Math.floor(selection.focus / columns); // stays, so that the keyboard is not lost
  const kept = (number) => number <= last && ((number >= from && number <= to) || number === stands);
  rows.forEach((row, number) => kept(number) || remove(row, number));
  for (let number = from; number <= to; number += 1) if (!rows.has(number)) add(number);
  if (last >= stands && !rows.has(stands)) add(stands);
  for (const row of rows.values()) for (const tile of row.children) fill(tile);
  want(view.ids.slice(from * columns, (to + 1) * columns));
}

function fill(tile) {
  const place = Number(tile.dataset.place);
  const id = view.ids[place];
  fillTile(tile, id, items.get(id));
  tile.setAttribute("aria-selected", selection.ids.has(id));
  tile.tabIndex = place === selection.focus ? 0 : -1;
}

function drawSoon() {
  if (!drawing) drawing = requestAnimationFrame(draw);
}

onView((what) => {
  if (what === "touched") return;
  if (what === "opened") scroller.scrollTop = 0;
  const held = grid.contains(document.activeElement);
  rows.forEach(remove);
  spread();
  draw();
  if (held && what === "renewed") tileAt(selection.focus)?.focus({ preventScroll: true });
});
onItems(drawSoon);
onSelection(drawSoon);
scroller.addEventListener("scroll", drawSoon, { passive: true });
new ResizeObserver(() => lay(false)).observe(scroller);

// a screen reader goes where it likes
grid.addEventListener("focusin", (event) => standOn(Number(event.target.dataset.place)));
grid.addEventListener("mousedown", (event) => {
  const tile = event.target.closest(".tile");
  if (!tile || event.button) return;
  const place = Number(tile.dataset.place);
  if (event.shiftKey) {
    event.preventDefault(); // no text is to be marked
    extend(place);
  } else if (event.ctrlKey || event.metaKey) toggle(place);
  else select(place);
  tile.focus({ preventScroll: true });
});
