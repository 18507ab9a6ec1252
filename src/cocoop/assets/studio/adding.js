// Images dropped on the page or chosen: sent a few at a time, in turn.

import { ask } from "./api.js";
import { announce, find, make } from "./dom.js";
import { poll, state } from "./state.js";
import { count, many } from "./words.js";

let turn = Promise.resolve();

/** Divide files into requests that the studio takes. */
export function batches(files, { upload_files: most = 32, upload_bytes: bytes = 32_000_000 }) {
  const sent = [];
  let size = Infinity;
  for (const file of files) {
    if (size + file.size > bytes || sent.at(-1).length >= most) {
      sent.push([]);
      size = 0;
    }
    sent.at(-1).push(file);
    size += file.size;
  }
  return sent;
}

function send(list) {
  const files = [...list]; // the field's own list is emptied
  turn = turn.then(() => sendAll(files));
}

async function sendAll(files) {
  const problems = [];
  let added = 0;
  let known = 0;
  let sent = 0;
  for (const batch of batches(files, state.limits)) {
    report(`Adding ${count(sent)} of ${many(files.length, "image")}.`);
    const body = new FormData();
    batch.forEach((file) => body.append("images", file));
    try {
      const answer = await ask("POST", "upload", body);
      added += answer.added.length;
      known += answer.known?.length ?? 0;
      problems.push(...answer.refused.map(({ name, error }) => `${name}: ${error}`));
    } catch (error) {
      problems.push(`${batch.length === 1 ? batch[0].name : many(batch.length, "image")}: ${error.message}`);
    }
    sent += batch.length;
  }
  const words = [`${many(added, "image")} added.`];
  if (known) words.push(`${many(known, "image")} ${known === 1 ? "was" : "were"} there already.`);
  report(words.join(" "), problems);
  announce(words.join(" "));
  poll();
}

function report(words, problems = []) {
  const box = find("uploading");
  const list = problems.length ? make("ul", {}, ...problems.map((problem) => make("li", {}, problem))) : null;
  box.hidden = false;
  box.replaceChildren(
    ...[
      words,
      list,
      make("button", { type: "button", class: "link", click: () => (box.hidden = true) }, "Close"),
    ].filter(Boolean),
  );
}

find("files").addEventListener("change", (event) => {
  send(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});

addEventListener("paste", (event) => event.clipboardData.files.length && send(event.clipboardData.files));

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("over");
  send(event.dataTransfer.files);
});
