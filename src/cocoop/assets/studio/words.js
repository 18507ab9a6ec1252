// Numbers as a person reads them.

const WHOLE = new Intl.NumberFormat("en");

export const count = (number) => WHOLE.format(number);

export const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;

/** Seconds, roughly, as what is left of a wait. */
export function left(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `${many(Math.max(1, Math.round(seconds)), "second")} left`;
  if (seconds < 5400) return `${many(Math.round(seconds / 60), "minute")} left`;
  return `${many(Math.round(seconds / 3600), "hour")} left`;
}

/** What the studio says, as a whole sentence. */
export function sentence(text) {
  if (!text) return "";
  const begun = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** Names that a person typed or pasted, by commas or lines, each once. */
export function split(text) {
  return [
    ...new Set(
      text
        .split(/[\n,]/)
        .map((name) => name.trim())
        .filter(Boolean),
    ),
  ];
}

/** Names by lines only: a phrase may hold commas. */
export const lines = (text) => [
  ...new Set(
    text
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean),
  ),
];
