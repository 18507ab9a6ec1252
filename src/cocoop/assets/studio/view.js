// Which images are shown, in which order. The order is kept still while somebody labels, so that no tile jumps
// away under the hand; it is asked for anew when the person wants that, or when nothing has been done in it.

import { newest, query } from "./api.js";
import { onState, state } from "./state.js";

/** The tabs: name of the view, words, and what is said where it has no images. */
export const VIEWS = [
  ["all", "All", "There are no images yet. Drop some here, or choose “Add images”."],
  ["unlabelled", "Unlabelled", "Every image has a label."],
  ["labelled", "Labelled", "No image has a label yet. Select images and press a number key, or click a class."],
  ["next", "Label next", "There is nothing to propose. The images whose labels would teach a model most stand here."],
  ["groups", "Groups", "Images are grouped by likeness as soon as they have been looked at."],
  ["unsure", "Unsure", "No image is unsure. Images between two classes stand here."],
  ["wrong", "Wrong", "No image is wrong. Held-out images that get another name than their labels stand here."],
  ["suspicious", "Suspicious", "No label is suspicious. Labels that the images around them speak against stand here."],
  ["unreadable", "Unreadable", "Every image can be read."],
];

export const view = {
  query: { view: "all" },
  ids: [],
  total: 0,
  places: new Map(),
  version: null,
  touched: 0,
  loading: true,
  problem: "",
};

const MOST = 20_000; // images that the studio lists

const ask = newest();
const listeners = [];

export const onView = (listener) => listeners.push(listener);

/** Show other images: a view, perhaps only those of a class, a group, or a cell of the confusion. */
export function open(wanted) {
  Object.assign(view, { query: wanted, ids: [], total: 0, places: new Map(), loading: true, problem: "" });
  tell("opened");
  return renew();
}

/** Ask for the order as it is now. */
export async function renew() {
  if (view.query.view === "groups") return;
  try {
    const answer = await ask("GET", query("ids", view.query));
    if (!answer) return;
    const places = new Map(answer.ids.map((id, place) => [id, place]));
    const { ids, total, version } = answer;
    Object.assign(view, { ids, total, places, version, touched: 0, loading: false, problem: "" });
  } catch (error) {
    Object.assign(view, { loading: false, problem: error.message });
  }
  tell("renewed");
}

/** Note that labels were changed by hand: the order stays, though another one might be due. */
export function touch(number, version) {
  view.version = version;
  view.touched += number;
  tell("touched");
}

/** Whether a label that changes can move an image out of what is shown. */
export const moves = () => view.query.view !== "all" || "label" in view.query || "true" in view.query;

function tell(what) {
  for (const listener of listeners) listener(what);
}

onState(() => {
  if (view.version === state.version || view.query.view === "groups") return;
  const whole = view.query.view === "all" && Object.keys(view.query).length === 1; // all images, always in one order
  if (whole && !view.loading && view.ids.length === Math.min(state.images, MOST)) view.version = state.version;
  else if (!view.touched || !moves()) renew();
});
