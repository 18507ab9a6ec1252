// What the model is worth on images that it did not learn from, beside zero-shot, and what it confuses.

import { ask } from "./api.js";
import { find, make, say } from "./dom.js";
import { show } from "./grid.js";
import { onState, state } from "./state.js";
import { many, percent } from "./words.js";

let shown = "";

/** A name, its accuracy as a number and as a bar, and the 95% interval upon it. */
function score(words, accuracy, interval, kind) {
  const bar = make("div", { class: `score ${kind}`, "aria-hidden": "true" }, make("i", { class: "share" }), interval ? make("i", { class: "interval" }) : null);
  bar.style.setProperty("--share", accuracy);
  if (interval) {
    bar.style.setProperty("--low", interval[0]);
    bar.style.setProperty("--high", interval[1]);
  }
  const range = interval ? make("span", { class: "hint" }, `${percent(interval[0])} to ${percent(interval[1])}`) : null;
  return make("div", {}, make("p", { class: "row" }, make("span", {}, words), make("b", {}, percent(accuracy, 1)), range), bar);
}

function drawScores(model) {
  find("scores").replaceChildren(
    score(model.title ?? model.method, model.accuracy, model.interval, "model"),
    score("Zero-shot", model.zero_shot, model.zero_shot_interval, "zero"),
    make("p", { class: "hint" }, `On ${many(model.held_out, "held-out image")}; learned from ${many(model.images, "other")}. The ranges hold the truth 95 times of 100.`));
  if (model.new_names?.length) {
    find("scores").append(make("p", { class: "hint" }, `Added since, and answered without training: ${model.new_names.join(", ")}.`));
  }
}

function cell(number, names, row, column) {
  if (!number) return make("td", { class: row === column ? "right" : null }, "0");
  const [label, predicted] = [names[row], names[column]];
  const words = `${many(number, "image")} of ${label}, named ${predicted}`;
  const button = make("button", {
    type: "button", "aria-label": words, title: words, click: () => show({ view: "all", true: label, predicted }),
  }, String(number));
  return make("td", { class: row === column ? "right" : "wrong" }, button);
}

function drawConfusion({ confusion: { names, counts }, per_class: each }) {
  const head = (words, scope) => make("th", { scope, title: words }, make("span", {}, words));
  const rows = counts.map((row, place) => {
    const one = each?.[place];
    const share = one?.images ? percent(one.correct / one.images) : "";
    return make("tr", {}, head(names[place], "row"), ...row.map((number, column) => cell(number, names, place, column)),
      make("td", { class: "recall" }, share));
  });
  const top = make("tr", {}, make("td", {}), ...names.map((name) => head(name, "col")), make("th", { scope: "col", class: "recall" }, "right"));
  find("confusion").replaceChildren(
    make("p", { class: "hint", id: "confusion-words" }, "Rows are labels, columns are answers. A number shows its images."),
    make("div", { class: "scrolled", tabindex: "0", role: "region", "aria-labelledby": "confusion-words" },
      make("table", {}, make("thead", {}, top), make("tbody", {}, ...rows))));
}

async function draw() {
  const model = state.model;
  find("results").hidden = !model;
  find("stale").hidden = !model?.stale;
  const key = JSON.stringify(model && { ...model, stale: 0 });
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
