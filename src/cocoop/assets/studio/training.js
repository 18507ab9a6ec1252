// Train, watch it, stop it.

import { ask } from "./api.js";
import { announce, find, make, say } from "./dom.js";
import { adopt, onState, state } from "./state.js";
import { count, left, sentence } from "./words.js";

const running = () => state.training?.state === "running";
let before = null; // how the training stood when last looked at
let heard = 0; // quarters that were announced
let starting = false;
let methods = [];

/** Offer the methods that there are. */
async function offer() {
  try {
    const answer = await ask("GET", "methods");
    methods = answer.methods;
    const option = ({ name, title, summary }) => make("option", { value: name, title: summary }, title);
    const group = (words, some) => (some.length ? make("optgroup", { label: words }, ...some.map(option)) : null);
    const [quick, slow] = [methods.filter((one) => one.quick), methods.filter((one) => !one.quick)];
    find("method").append(...[group("In seconds", quick), group("Slower", slow)].filter(Boolean));
    find("method").value = answer.default;
    describe();
  } catch (error) {
    say(find("train-problem"), error.message);
  }
}

/** Say what the chosen method is, and offer its settings. */
function describe() {
  const { title, summary, open, presets } = methods.find(({ name }) => name === find("method").value);
  find("preset").replaceChildren(
    make("option", { value: "" }, "its own"),
    ...presets.map((name) => make("option", { value: name }, name)),
  );
  const closed = open ? "" : " It answers only for the classes that it was trained on.";
  say(find("method-hint"), `${sentence(`${title} ${summary}`)}${closed}`);
}

/** Train as the form says. */
async function start(event) {
  event.preventDefault();
  const epochs = find("epochs").valueAsNumber;
  const wanted = {
    method: find("method").value || undefined,
    preset: find("preset").value || undefined,
    epochs: Number.isNaN(epochs) ? undefined : epochs,
  };
  starting = true;
  await tell("POST", wanted);
  starting = false;
  draw();
}

async function tell(method, body) {
  try {
    say(find("train-problem"), "");
    adopt(await ask(method, "train", body));
  } catch (error) {
    say(find("train-problem"), error.message);
  }
}

function draw() {
  const work = state.training;
  find("train").disabled = starting || running() || Boolean(state.can_train);
  find("train").textContent = state.model ? "Train again" : "Train";
  say(find("train-hint"), running() ? "" : sentence(state.can_train));
  find("training").hidden = !running();
  if (running()) progress(work);
  if (before === "running" && !running() && work) ended(work);
  before = work?.state ?? null;
}

function progress({ done, total, loss, eta }) {
  const bar = find("training-bar");
  if (total) Object.assign(bar, { max: total, value: done });
  else bar.removeAttribute("value");
  const words = [total ? `Step ${count(done)} of ${count(total)}` : "Preparing"];
  if (loss !== null && loss !== undefined) words.push(`loss ${loss.toFixed(3)}`);
  if (eta) words.push(left(eta));
  find("training-text").textContent = words.join(", ");
  const quarter = total ? Math.floor((4 * done) / total) : 0;
  if (quarter !== heard) announce(`Training, ${25 * quarter}% done.`);
  heard = quarter;
}

function ended({ state: how, error }) {
  if (how === "failed") say(find("train-problem"), sentence(error) || "The training failed.");
  else announce(how === "done" ? "The training is done." : "The training was cancelled.");
}

find("train-form").addEventListener("submit", start);
find("method").addEventListener("change", describe);
find("cancel").addEventListener("click", () => tell("DELETE"));
onState(draw);
offer();
