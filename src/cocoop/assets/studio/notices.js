// What the studio has to say about itself: its folder, what it still looks at, and what is not as it should be.

import { find, make } from "./dom.js";
import { onState, state } from "./state.js";
import { count, left, many, sentence } from "./words.js";

const closed = new Set();
let shown = "";

function drawFeatures() {
  const { done = 0, total = 0, eta } = state.features;
  const busy = total > 0 && done < total;
  find("features").hidden = !busy && !state.backbone.loading;
  const bar = find("features-bar");
  if (busy) Object.assign(bar, { max: total, value: done });
  else bar.removeAttribute("value");
  find("features-text").textContent = busy
    ? `${count(done)} of ${many(total, "image")} looked at. ${left(eta)}`.trim()
    : `Loading. ${sentence(state.backbone.doing)}`.trim();
}

function drawNotices() {
  const { features, backbone, suggestions, read_only: fixed, notes = [] } = state;
  const problems = [features.error, backbone.error, fixed].filter(Boolean);
  const words = [backbone.warning, suggestions?.why, ...notes].filter((one) => one && !closed.has(one));
  const key = JSON.stringify([problems, words]);
  if (key === shown) return;
  shown = key;
  const close = (one) =>
    make("button", { type: "button", class: "link", click: () => closed.add(one) && drawNotices() }, "Close");
  find("notices").replaceChildren(
    ...problems.map((one) => make("li", { class: "problem" }, sentence(one))),
    ...words.map((one) => make("li", {}, sentence(one), " ", close(one))),
  );
}

onState(() => {
  const folder = find("folder");
  folder.textContent = folder.title = state.folder;
  find("progress").textContent = `${count(state.labelled)} of ${many(state.images, "image")} labelled`;
  document.title = `${state.folder.split(/[\\/]/).pop()} – cocoop studio`;
  drawFeatures();
  drawNotices();
});
