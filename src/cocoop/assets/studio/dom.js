// Elements by name. Text goes in as text only, so nothing that a folder or a file is called is read as HTML.

export const find = (id) => document.getElementById(id);

/** Make an element: functions are listeners of the event in their name, true is a bare attribute, null none. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set a text unless it is there already: what a screen reader has heard is not said again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

/** Say something in the page's live region. */
export function announce(text) {
  const said = find("said");
  said.textContent = said.textContent === text ? `${text}\u00a0` : text;
}

/** Call a function once the calls have stopped for some milliseconds. */
export function calm(milliseconds, wanted) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => wanted(...values), milliseconds);
  };
}
