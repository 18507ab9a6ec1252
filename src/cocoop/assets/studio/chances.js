// Names with their probabilities, each with a bar.

import { make } from "./dom.js";
import { percent } from "./words.js";

/** List elements for names, likeliest first. */
export function chances(names) {
  return names.map(({ name, p }) => {
    const bar = make("i", { class: "share" });
    bar.style.setProperty("--share", p);
    return make("li", {}, bar, make("span", { class: "name" }, name), make("span", { class: "chance" }, percent(p, 1)));
  });
}
