// Questions to the studio and its answers. What it refuses is a Refusal in its own words; no answer is a Silence.

import { sentence } from "./words.js";

export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Silence extends Error {}

/** Ask, and return what the answer holds; an object is sent as JSON, a form as it is. */
export async function ask(method, path, body, signal) {
  const options = { method, signal };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined)
    Object.assign(options, { body: JSON.stringify(body), headers: { "content-type": "application/json" } });
  let answer;
  try {
    answer = await fetch(`api/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Silence("The studio does not answer. Is it still running?");
  }
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw new Refusal(sentence(problem.error) || `The studio answered ${answer.status}; try again.`, answer.status);
}

/** Return a way to ask of which only the newest question is answered; the one before is given up. */
export function newest() {
  let controller;
  return async (...question) => {
    controller?.abort();
    controller = new AbortController();
    const { signal } = controller;
    try {
      const answer = await ask(question[0], question[1], question[2], signal);
      return signal.aborted ? null : answer;
    } catch (error) {
      if (error.name === "AbortError") return null;
      throw error;
    }
  };
}

/** Write a query, without what is not asked for. */
export function query(path, values) {
  const asked = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  return `${path}?${new URLSearchParams(asked)}`;
}
