// Take it away: the model, ONNX, the labelled images, the table; and the command that predicts.

import { ask } from "./api.js";
import { announce, find, make, say } from "./dom.js";
import { onState, poll, state } from "./state.js";

const WHAT = [
  ["model", "Model", "A folder that cocoop loads and predicts with."],
  ["onnx", "ONNX", "The model for programs without PyTorch."],
  ["folder", "Labelled images", "A folder for each class, with copies of its images."],
  ["table", "Table", "Paths and labels as CSV."],
];
const buttons = new Map();

async function save(what, overwrite) {
  const { button, words } = buttons.get(what);
  button.disabled = true;
  button.textContent = "Saving…";
  say(find("save-problem"), "");
  try {
    const answer = await ask("POST", "save", { what, overwrite });
    show(what, answer);
    announce(`${words} saved.`);
    poll();
  } catch (error) {
    say(find("save-problem"), error.message);
    if (error.status === 409 && !overwrite) offerOverwrite(what);
  } finally {
    button.textContent = words;
    drawButtons();
  }
}

function offerOverwrite(what) {
  find("save-problem").append(" ", make("button", { type: "button", click: () => save(what, true) }, "Replace it"));
}

function show(what, { path, command, words }) {
  const line = make(
    "li",
    { "data-what": what },
    make("p", { class: "hint" }, words || buttons.get(what).words),
    make("p", { class: "row" }, make("code", {}, path), copier(path, "the path")),
    command ? make("p", { class: "row" }, make("code", {}, command), copier(command, "the command")) : null,
  );
  find("saved").querySelector(`[data-what="${what}"]`)?.remove();
  find("saved").prepend(line);
}

/** A button that copies a text; without a clipboard the text is marked, for the person to copy. */
function copier(text, what) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce("Copied.");
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
    }
  };
  const button = make("button", { type: "button", "aria-label": `Copy ${what}`, click: copy }, "Copy");
  return button;
}

/** Show what was saved before the page was opened. */
function drawSaved() {
  for (const [what, path] of Object.entries(state.saved ?? {})) {
    if (path && !find("saved").querySelector(`[data-what="${what}"]`))
      show(what, { path, command: what === "model" ? state.predict : "" });
  }
}

function drawButtons() {
  for (const [what, { button }] of buttons) {
    if (button.textContent === "Saving…") continue;
    button.disabled = what === "table" || what === "folder" ? !state.labelled : !state.model;
  }
}

for (const [what, words, title] of WHAT) {
  const button = make("button", { type: "button", title, click: () => save(what, false) }, words);
  buttons.set(what, { button, words });
  find("save").append(button);
}
onState(drawButtons);
onState(drawSaved);
