// What the model is worth on images that it did not learn from, beside zero-shot, and what it confuses.

import { ask } from "./api.js";
import { find, make, say } from "./dom.js";
import { show } from "./grid.js";
import { onState, state } from "./state.js";
import { many, percent } from "./words.js";

const MOST = 40; // classes in the table; of more, those with the most mistakes

let shown = "";

/** A name, its accuracy as a number and as a bar, and the 95% interval upon it. */
function score(words, accuracy, interval, kind) {
  const bar = make(
    "div",
    { class: `score ${kind}`, "aria-hidden": "true" },
    make("i", { class: "share" }),
    interval ? make("i", { class: "interval" }) : null,
  );
  bar.style.setProperty("--share", accuracy);
  if (interval) {
    bar.style.setProperty("--low", interval[0]);
    bar.style.setProperty("--high", interval[1]);
  }
  const range = interval ? make("span", { class: "hint" }, `${percent(interval[0])} to ${percent(interval[1])}`) : null;
  return make(
    "div",
    {},
    make("p", { class: "row" }, make("span", {}, words), make("b", {}, percent(accuracy, 1)), range),
    bar,
  );
}

function drawScores(model) {
  if (model.accuracy === null) {
    find("scores").replaceChildren(make("p", { class: "hint" }, "No held-out image has a label now."));
    return;
  }
  find("scores").replaceChildren(
    score(model.title ?? model.method, model.accuracy, model.interval, "model"),
    score("Zero-shot", model.zero_shot, model.zero_shot_interval, "zero"),
    make("p", { class: "hint" }, `${tested(model)} The ranges hold the truth 95 times of 100.`),
  );
  const { new_names: added, open } = model;
  const how = open
    ? "Added since, and answered without training"
    : "Added since, and not known to it until you train again";
  if (added.length) find("scores").append(make("p", { class: "hint" }, `${how}: ${added.join(", ")}.`));
}

const tested = ({ held_out: held, images }) =>
  `On ${many(held, "held-out image")}; learned from ${many(images, "other")}.`;

function cell(number, names, row, column) {
  if (!number) return make("td", { class: row === column ? "right" : null }, "0");
  const [label, predicted] = [names[row], names[column]];
  const words = `${many(number, "image")} of ${label}, named ${predicted}`;
  const button = make(
    "button",
    {
      type: "button",
      "aria-label": words,
      title: words,
      click: () => show({ view: "all", true: label, predicted }),
    },
    String(number),
  );
  return make("td", { class: row === column ? "right" : "wrong" }, button);
}

/** The places of the classes to show, in their order. */
function worst(counts) {
  const mistakes = counts.map((row, place) =>
    row.reduce((sum, number, column) => sum + (column === place ? 0 : number + counts[column][place]), 0),
  );
  const places = counts.map((_, place) => place).sort((one, other) => mistakes[other] - mistakes[one]);
  return places.slice(0, MOST).sort((one, other) => one - other);
}

function drawConfusion({ confusion: { names, counts }, per_class: each }) {
  const places = worst(counts);
  const head = (words, scope) => make("th", { scope, title: words }, make("span", {}, words));
  const rows = places.map((row) => {
    const { images, correct } = each[row];
    const cells = places.map((column) => cell(counts[row][column], names, row, column));
    return make(
      "tr",
      {},
      head(names[row], "row"),
      ...cells,
      make("td", { class: "recall" }, images ? percent(correct / images) : ""),
    );
  });
  const top = make(
    "tr",
    {},
    make("td", {}),
    ...places.map((place) => head(names[place], "col")),
    make("th", { scope: "col", class: "recall" }, "right"),
  );
  const part = places.length < names.length ? ` The ${MOST} of ${names.length} classes with the most mistakes.` : "";
  find("confusion").replaceChildren(
    make(
      "p",
      { class: "hint", id: "confusion-words" },
      `Rows are labels, columns are answers. A number shows its images.${part}`,
    ),
    make(
      "div",
      { class: "scrolled", tabindex: "0", role: "region", "aria-labelledby": "confusion-words" },
      make("table", {}, make("thead", {}, top), make("tbody", {}, ...rows)),
    ),
  );
}

async function draw() {
  const model = state.model;
  find("results").hidden = !model;
  find("stale").hidden = !model?.stale;
  const key = JSON.stringify(model && [{ ...model, stale: 0 }, model.stale ? state.version : 0]);
  if (!model || key === shown) return;
  shown = key;
  drawScores(model);
  try {
    drawConfusion(await ask("GET", "evaluation"));
  } catch (error) {
    shown = "";
    find("confusion").replaceChildren(make("p", { class: "problem", role: "alert" }, error.message));
  }
}

onState(draw);
