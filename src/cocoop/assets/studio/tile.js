// One image in the grid: its thumbnail, and its label or else what is suggested.

import { make } from "./dom.js";
import { colour } from "./state.js";
import { percent } from "./words.js";

const SETTLE = 60; // milliseconds that a tile is in sight before its thumbnail is asked for
const seen = new Set(); // thumbnails that the browser has

/** Make an empty tile. */
export function makeTile(place, column) {
  const image = make("img", { alt: "", draggable: "false" });
  const chip = make("i", { class: "chip" });
  const name = make("span", { class: "name" });
  const chance = make("span", { class: "chance" });
  const bar = make("i", { class: "likely" });
  const note = make("span", { class: "note" });
  const tile = make(
    "div",
    { role: "gridcell", class: "tile", tabindex: "-1", "aria-colindex": column + 1, "data-place": place },
    make("span", { class: "frame" }, image, note),
    make("span", { class: "caption" }, chip, name, chance, bar),
  );
  return Object.assign(tile, { parts: { image, chip, name, chance, bar, note } });
}

/** Show an image in a tile; `item` is what is known of it, if anything. */
export function fillTile(tile, id, item) {
  const { chip, name, chance, bar, note } = tile.parts;
  if (tile.imageId !== id) showThumbnail(tile, id);
  const label = item?.label ?? null;
  const guess = item?.suggestion[0];
  const doubt = label !== null && guess && guess.name !== label && guess.p > 0.5;
  const known = label === null && guess;
  tile.classList.toggle("labelled", label !== null);
  chip.dataset.colour = label === null ? "none" : colour(label);
  text(name, label ?? guess?.name ?? "");
  text(chance, known ? percent(guess.p) : "");
  bar.style.setProperty("--share", known ? guess.p : 0);
  text(note, item?.problem ? "cannot be read" : doubt ? `${guess.name}?` : "");
  const words = describe(item, label, guess, doubt);
  if (tile.getAttribute("aria-label") !== words) tile.setAttribute("aria-label", words);
  tile.title = item?.path ?? "";
}

/** Stop loading what is no longer in sight. */
export function dropTile(tile) {
  clearTimeout(tile.timer);
  if (!tile.parts.image.complete) tile.parts.image.removeAttribute("src");
}

function showThumbnail(tile, id) {
  const { image } = tile.parts;
  clearTimeout(tile.timer);
  tile.imageId = id;
  const load = () => {
    image.src = `api/thumb/${id}`;
    image.onload = () => {
      seen.add(id);
      tile.classList.remove("waiting");
    };
  };
  tile.classList.toggle("waiting", !seen.has(id));
  if (seen.has(id)) return load();
  image.removeAttribute("src");
  tile.timer = setTimeout(load, SETTLE);
}

function describe(item, label, guess, doubt) {
  if (!item) return "An image";
  const words = [item.name, label !== null ? `labelled ${label}` : "no label"];
  if (label === null && guess) words.push(`suggested ${guess.name} ${percent(guess.p)}`);
  if (doubt) words.push(`${guess.name} is likelier`);
  if (item.problem) words.push(item.problem);
  return words.join(", ");
}

function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
