// What the studio last said of itself. It is asked every two seconds, and more often while it works.

import { newest, Silence } from "./api.js";
import { find, say } from "./dom.js";

const BUSY = 500; // milliseconds
const IDLE = 2000;
const COLOURS = 12;

export const state = {
  version: null,
  names: [],
  counts: {},
  features: {},
  backbone: {},
  training: null,
  model: null,
  limits: {},
};

const listeners = [];
const ask = newest();
let timer;
let told = 0; // times that news were taken in

export const onState = (listener) => listeners.push(listener);

/** The number of a class's colour; they come again after twelve. */
export function colour(name) {
  const place = state.names.findIndex((one) => one.name === name);
  return place < 0 ? "none" : place % COLOURS;
}

/** Take news in and tell everybody. */
export function adopt(news) {
  told += 1;
  Object.assign(state, news);
  for (const listener of listeners) listener(state);
}

/** Ask for the state now, and then again and again. */
export async function poll() {
  clearTimeout(timer);
  try {
    const before = told;
    const news = await ask("GET", "state");
    if (!news) return; // a newer question stands
    if (told === before) adopt(news); // else an answer to a change has come meanwhile, and is newer
    say(find("trouble"), "");
  } catch (error) {
    say(
      find("trouble"),
      error instanceof Silence ? `${error.message} It is asked again until it answers.` : error.message,
    );
  }
  clearTimeout(timer);
  timer = setTimeout(poll, state.busy ? BUSY : IDLE);
}
