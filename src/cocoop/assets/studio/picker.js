// A label by its name, for the classes that no number key stands for.

import { find, make } from "./dom.js";
import { stand } from "./grid.js";
import { labelSelected } from "./labels.js";
import { selection } from "./selection.js";
import { colour, state } from "./state.js";
import { many } from "./words.js";

/** Ask for a name and give it to the selected images. */
export function pick() {
  if (!selection.ids.size || !state.names.length) return;
  const dialog = find("picker");
  const field = make("input", { id: "pick", autocomplete: "off", spellcheck: "false", input: () => draw() });
  const list = make("ul", { class: "choices" });
  const choose = (name) => {
    dialog.close();
    labelSelected(name);
  };
  const found = () => state.names.filter(({ name }) => name.toLowerCase().includes(field.value.trim().toLowerCase()));
  const draw = () => {
    list.replaceChildren(
      ...found().map(({ name }) =>
        make(
          "li",
          {},
          make(
            "button",
            { type: "button", click: () => choose(name) },
            make("i", { class: "chip", "data-colour": colour(name) }),
            make("span", { class: "name" }, name),
          ),
        ),
      ),
    );
  };
  const form = make(
    "form",
    {
      submit: (event) => {
        event.preventDefault();
        if (found().length) choose(found()[0].name);
      },
    },
    make("label", { for: "pick" }, `Label ${many(selection.ids.size, "image")} as`),
    field,
    list,
  );
  dialog.replaceChildren(form);
  dialog.onclose = stand;
  draw();
  dialog.showModal();
}
