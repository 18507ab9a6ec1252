// What a person with a screen reader, or with weak eyes, would stumble over in a page; all lists are to be empty.
() => {
  const all = (wanted) => [...document.querySelectorAll(wanted)].filter((one) => one.checkVisibility());
  const shown = (elements) => elements.map((one) => one.outerHTML.slice(0, 300));

  const byId = (element, attribute) => document.getElementById(element.getAttribute(attribute) ?? "")?.innerText;
  const named = (one) =>
    one.getAttribute("aria-label") || byId(one, "aria-labelledby") || one.labels?.[0]?.innerText || one.innerText;
  const controls =
    "button, input, select, textarea, progress, dialog, " +
    "[role=grid], [role=gridcell], [role=tab], [role=tablist], [role=region], [role=toolbar]";

  const pointers = ["for", "aria-labelledby", "aria-describedby", "aria-controls"];
  const lost = (name) => all(`[${name}]`).filter((one) => !document.getElementById(one.getAttribute(name)));

  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);

  // WCAG 2: the contrast of a text with what is behind it
  const channel = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (rgb) =>
    rgb.reduce((sum, value, place) => sum + [0.2126, 0.7152, 0.0722][place] * channel(value / 255), 0);
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const behind = (one) => {
    const colour = numbers(getComputedStyle(one).backgroundColor);
    return colour[3] === 0 && one.parentElement ? behind(one.parentElement) : colour.slice(0, 3);
  };
  const pale = (one) => {
    const [less, more] = [light(numbers(getComputedStyle(one).color)), light(behind(one))].sort((a, b) => a - b);
    return (more + 0.05) / (less + 0.05) < 4.5;
  };
  const text = (one) => [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());

  return {
    unnamed: shown(all(controls).filter((one) => !named(one)?.trim())),
    lost: pointers.flatMap((name) => shown(lost(name))),
    twice: ids.filter((id, place) => ids.indexOf(id) !== place),
    pale: shown(all("body *").filter((one) => text(one) && !one.closest(":disabled, .unseen") && pale(one))),
    undescribed: shown(all("img:not([alt])")),
  };
};
