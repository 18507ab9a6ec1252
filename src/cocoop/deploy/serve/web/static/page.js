// Sends the images and names whenever they change, and shows the answer, which the server has escaped.
const form = document.querySelector("form");
const results = document.querySelector("#results");
const clear = document.querySelector("#clear");
const chosen = document.querySelector("#chosen");
const invitation = [chosen.textContent, results.innerHTML];
let files = [];
let timer, busy, again;

function choose(more) {
  files = [...files, ...more];
  chosen.textContent = files.length ? `${files.length} image${files.length > 1 ? "s" : ""}; add more` : invitation[0];
  clear.hidden = !files.length;
  ask(0);
}

function ask(wait) {
  clearTimeout(timer);
  timer = setTimeout(send, wait);
}

async function send() {
  if (!form.reportValidity()) return;
  again = busy; // asked anew when the answer is there
  if (busy) return;
  if (!files.length) {
    results.innerHTML = invitation[1];
    return;
  }
  const body = new FormData(form);
  body.delete("images");
  files.forEach((file) => body.append("images", file));
  busy = true;
  results.classList.add("busy");
  try {
    const answer = await fetch("results", { method: "POST", body });
    if (answer.ok) results.innerHTML = await answer.text();
    else showProblem((await answer.json()).error);
  } catch {
    showProblem("The server did not answer; is it still running?");
  }
  busy = false;
  results.classList.remove("busy");
  if (again) ask(0);
}

function showProblem(text) {
  const problem = document.createElement("p");
  problem.className = "problem";
  problem.textContent = text;
  results.replaceChildren(problem);
}

form.images.addEventListener("change", () => {
  choose(form.images.files);
  form.images.value = ""; // so that the same file can be chosen again
});
form.classes.addEventListener("input", () => ask(300));
form.top_k.addEventListener("input", () => ask(300));
form.addEventListener("submit", (event) => event.preventDefault());
clear.addEventListener("click", () => {
  files = [];
  choose([]);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  choose(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  const pasted = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
  if (!pasted.length) return; // words, for the field that they are pasted into
  event.preventDefault();
  choose(pasted);
});
