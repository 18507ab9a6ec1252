// Shows what a camera sees, and sends single pictures of it; nothing is sent before a picture is taken.
const panel = document.querySelector("#camera");
const video = panel.querySelector("video");
const opener = document.querySelector("#open");
const taker = document.querySelector("#take");
const trouble = document.querySelector("#trouble");
const REASONS = {
  NotAllowedError: "The browser was told not to give the camera to this page.",
  NotFoundError: "There is no camera.",
  NotReadableError: "Another program uses the camera.",
};
let pictures = 0;

function say(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
}

async function openCamera() {
  say("");
  opener.disabled = true;
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    panel.hidden = false;
  } catch (error) {
    opener.disabled = false;
    say(REASONS[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
}

function closeCamera() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  panel.hidden = taker.disabled = true;
  opener.disabled = false;
}

function takePicture() {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  pictures += 1;
  const name = `camera ${pictures}.jpg`;
  canvas.toBlob((blob) => choose([new File([blob], name, { type: blob.type })]), "image/jpeg", 0.92);
}

if (!navigator.mediaDevices) {
  opener.disabled = true;
  say("The camera works on https and on localhost only: browsers give it to no other page.");
}
opener.addEventListener("click", openCamera);
video.addEventListener("loadeddata", () => (taker.disabled = false));
taker.addEventListener("click", takePicture);
document.querySelector("#close").addEventListener("click", closeCamera);
addEventListener("pagehide", closeCamera);
