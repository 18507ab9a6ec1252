// The form that rewords, renames or removes one class.

import { ask } from "./api.js";
import { announce, make, say } from "./dom.js";
import { adopt, state } from "./state.js";
import { lines, many } from "./words.js";

/** A class as the studio takes it back. */
export const plain = ({ name, phrases }) => ({ name, phrases });

/** Send the whole list of classes; return whether it was taken, else say why not. */
export async function put(names, problem) {
  try {
    adopt(await ask("PUT", "names", { names, known: state.names.map(({ name }) => name) }));
    say(problem, "");
    return true;
  } catch (error) {
    say(problem, error.message);
    return false;
  }
}

/** Make the form for a class; `close` is called with the name that the class has then, or null. */
export function editor(one, close) {
  const problem = make("p", { class: "problem", role: "alert", hidden: true });
  const name = make("input", { value: one.name, autocomplete: "off", spellcheck: "false" });
  const phrases = make("textarea", { rows: 3, spellcheck: "false" });
  phrases.value = one.phrases.join("\n");
  const change = async (event) => {
    event.preventDefault();
    const changed = { name: name.value.trim(), phrases: lines(phrases.value), was: one.name };
    if (!changed.name) return say(problem, "A class needs a name.");
    if (
      await put(
        state.names.map((other) => (other.name === one.name ? changed : plain(other))),
        problem,
      )
    )
      close(changed.name);
  };
  const remove = async () => {
    if (!(await put(state.names.filter((other) => other.name !== one.name).map(plain), problem))) return;
    close(null);
    announce(`${one.name} removed. Undo brings it back.`);
  };
  return make(
    "form",
    { class: "editor", submit: change, keydown: (event) => event.key === "Escape" && close(one.name) },
    make("label", {}, "Name", name),
    make("label", {}, "Other words for it, one a line", phrases),
    problem,
    make(
      "div",
      { class: "row" },
      make("button", { class: "main" }, "Change"),
      make(
        "button",
        { type: "button", click: remove },
        one.count ? `Remove with ${many(one.count, "label")}` : "Remove",
      ),
      make("button", { type: "button", click: () => close(one.name) }, "Close"),
    ),
  );
}
