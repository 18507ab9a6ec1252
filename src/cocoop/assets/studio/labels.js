// Labels given, taken off, undone. They show at once; while the studio does not answer they wait in line.

import { ask, Silence } from "./api.js";
import { announce, find, say } from "./dom.js";
import { stand } from "./grid.js";
import { items, keepThrough, load, relabel } from "./items.js";
import { selected, selectIds, advance } from "./selection.js";
import { adopt, onState, state } from "./state.js";
import { many } from "./words.js";
import { touch } from "./view.js";

export const MOST = 2000; // suggestions taken over at once

const line = []; // changes that the studio has not yet confirmed
let sending = false;

/** Give images a label, or take it off where the name is null. */
export function label(ids, name) {
  if (!ids.length) return;
  const what = ids.length === 1 ? (items.get(ids[0])?.name ?? "1 image") : many(ids.length, "image");
  announce(name === null ? `${what}: no label.` : `${what}: ${name}.`);
  send(
    "label",
    { ids, name },
    ids.map((id) => ({ id, label: name })),
  );
}

/** Label what is selected and go on to the next image. */
export function labelSelected(name) {
  const ids = selected();
  if (!ids.length) return announce("Select images first.");
  label(ids, name);
  advance();
  stand();
}

/** Take over the suggestions of what is selected and has no label; one step for undo. */
export async function acceptSelected() {
  const ids = selected();
  if (ids.length > MOST) return announce(`Select at most ${many(MOST, "image")} for that.`);
  try {
    await load(ids); // those out of sight too
  } catch (error) {
    return say(find("label-problem"), error.message);
  }
  const labels = ids
    .map((id) => items.get(id))
    .filter((item) => item && item.label === null && item.suggestion.length)
    .map((item) => ({ id: item.id, name: item.suggestion[0].name }));
  if (!labels.length) return announce("No selected image has a suggestion without a label.");
  announce(labels.length === 1 ? `${labels[0].name}.` : `${many(labels.length, "suggestion")} taken over.`);
  send(
    "label",
    { labels },
    labels.map(({ id, name }) => ({ id, label: name })),
  );
  advance();
  stand();
}

export const undo = () => turn("undo");

export const redo = () => turn("redo");

function turn(way) {
  if (state[`can_${way}`] || line.length) send(way, {}, []);
  else announce(`There is nothing to ${way}.`);
}

function send(path, body, changes) {
  const before = changes.map(({ id }) => ({ id, label: items.get(id)?.label ?? null }));
  relabel(changes);
  line.push({ path, body, before });
  work();
}

async function work() {
  if (sending) return;
  sending = true;
  while (line.length) {
    const { path, body, before } = line[0];
    try {
      take(path, await ask("POST", path, body));
      say(find("label-problem"), "");
    } catch (error) {
      if (error instanceof Silence) {
        say(find("label-problem"), `${many(line.length, "change")} will be sent when the studio answers again.`);
        break;
      }
      relabel(before);
      say(find("label-problem"), error.message);
    }
    line.shift();
  }
  sending = false;
}

function take(path, answer) {
  relabel(answer.changed);
  keepThrough(answer.version);
  touch(answer.changed.length, answer.version);
  adopt(answer);
  if (path === "label") return;
  selectIds(answer.changed.map(({ id }) => id));
  stand();
  announce(`${path === "undo" ? "Undone" : "Done again"}: ${many(answer.changed.length, "label")}.`);
}

addEventListener("beforeunload", (event) => line.length && event.preventDefault());
onState(() => {
  if (line.length) work();
  for (const way of ["undo", "redo"]) {
    const button = find(way);
    button.disabled = !state[`can_${way}`];
    button.title = state[way] ? `${button.textContent}: ${state[way]}` : button.textContent;
  }
});
