// Any names, tried on some images; no label changes.

import { newest } from "./api.js";
import { chances } from "./chances.js";
import { calm, find, make, say } from "./dom.js";
import { items } from "./items.js";
import { selected, selection } from "./selection.js";
import { split } from "./words.js";

const MOST = 24; // images
const ask = newest();

const trySoon = calm(300, async () => {
  const names = split(find("try-names").value);
  if (!names.length) {
    find("tried").replaceChildren();
    return say(find("try-problem"), "");
  }
  const ids = selection.ids.size > 1 ? selected().slice(0, MOST) : undefined;
  try {
    const answer = await ask("POST", "try", { names, ids });
    if (!answer) return; // newer names are asked for
    say(find("try-problem"), "");
    find("tried").replaceChildren(...answer.items.map(row));
  } catch (error) {
    say(find("try-problem"), error.message);
  }
});

function row({ id, names }) {
  const words = items.get(id)?.name ?? "";
  return make(
    "li",
    {},
    make("img", { src: `api/thumb/${id}`, alt: words, loading: "lazy" }),
    make("ol", { class: "chances" }, ...chances(names.slice(0, 3))),
  );
}

find("try-names").addEventListener("input", trySoon);
