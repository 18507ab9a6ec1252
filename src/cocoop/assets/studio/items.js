// What is known of each image, by its number. Only what is looked at is asked for, in few questions.

import { ask, query } from "./api.js";
import { calm } from "./dom.js";
import { onState } from "./state.js";

const AT_ONCE = 200; // images a question

export const items = new Map();

const versions = new Map(); // of what is known of each
const asked = new Set();
const listeners = [];
let wanted = [];
let seen = null; // version of the studio
let needed = 0; // what is known of an earlier version is asked for again

export const onItems = (listener) => listeners.push(listener);

/** Ask for what is not known of some images; only the last ones wanted are asked for. */
export function want(ids) {
  wanted = ids;
  fetchSoon();
}

/** Wait until all these images are known. Throws what the studio refuses. */
export async function load(ids) {
  const missing = ids.filter((id) => !items.has(id));
  for (let place = 0; place < missing.length; place += AT_ONCE) await fetchItems(missing.slice(place, place + AT_ONCE));
}

/** Change labels in what is known, as the person or the studio did. */
export function relabel(changes) {
  for (const { id, label } of changes) if (items.has(id)) items.get(id).label = label;
  tell();
}

/** Take the version that a change of labels alone has made: nothing else has to be asked anew. */
export function keepThrough(version) {
  if (version === seen + 1) seen = version;
}

function tell() {
  for (const listener of listeners) listener();
}

async function fetchItems(ids) {
  const answer = await ask("GET", query("images", { ids: ids.join(",") }));
  for (const item of answer.items) {
    items.set(item.id, item);
    versions.set(item.id, answer.version);
  }
}

const fetchSoon = calm(30, async () => {
  const missing = wanted.filter((id) => !(versions.get(id) >= needed) && !asked.has(id)).slice(0, AT_ONCE);
  if (!missing.length) return;
  missing.forEach((id) => asked.add(id));
  try {
    await fetchItems(missing);
    tell();
  } catch {
    // the state is asked for all the time, and says what is wrong
  } finally {
    missing.forEach((id) => asked.delete(id));
  }
});

onState((state) => {
  if (state.version === seen) return;
  if (state.version < seen) versions.clear(); // the studio was started again
  seen = needed = state.version;
  tell();
});
