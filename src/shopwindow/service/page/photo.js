// A photo that somebody searches with: chosen, dropped or pasted. It stays in this page; the address numbers it only.

import { go, photos, state } from "./address.js";
import { $, make } from "./elements.js";

const MOST_KEPT = 8;           // photos that the back button can return to
const LONGEST_PX = 1600;       // more is only longer on its way
const KINDS = ["image/jpeg", "image/png", "image/webp", "image/gif"];
let count = 0;

const isOffered = () => !$("by-photo").hidden;
const pictureIn = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/"));

// The photo as it is sent: a large one, or one of a kind that the service does not read, is drawn anew as a JPEG.
async function ready(file) {
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, LONGEST_PX / Math.max(picture.width, picture.height));
    if (scale === 1 && KINDS.includes(file.type)) return file;
    const canvas = make("canvas", { width: Math.round(picture.width * scale), height: Math.round(picture.height * scale) });
    const paper = canvas.getContext("2d");
    paper.fillStyle = "#fff";
    paper.fillRect(0, 0, canvas.width, canvas.height);
    paper.drawImage(picture, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob((blob) => done(blob ?? file), "image/jpeg", .92));
  } catch { return file; }     // the service says what is wrong with it
}

async function take(file) {
  const number = String(++count);
  photos.set(number, await ready(file));
  for (const old of [...photos.keys()].slice(0, -MOST_KEPT)) photos.delete(old);
  go({ photo: number, like: null, region: null, open: null });
  scrollTo({ top: 0 });
}

export function listen() {
  $("file").addEventListener("change", () => { const [file] = $("file").files; $("file").value = ""; if (file) take(file); });
  document.addEventListener("paste", (event) => {
    const file = isOffered() && pictureIn(event.clipboardData);
    if (file) { event.preventDefault(); take(file); }
  });
  document.addEventListener("dragover", (event) => {
    if (!isOffered() || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  document.addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!isOffered() || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();    // else the browser leaves the page for the file
    const file = pictureIn(event.dataTransfer);
    if (file) take(file);
    else $(document.body.classList.contains("resting") ? "hint" : "status").textContent = "That is no photo: drop a JPEG, PNG, WebP or GIF.";
  });
  $("remove-photo").addEventListener("click", () => { go({ photo: null, share: null }); $("words").focus(); });
  $("share").addEventListener("change", () => { if ($("share").value !== (state().share ?? "0.5")) go({ share: $("share").value }, { replace: true }); });
}

export function showAsked({ photo, q, share }) {   // the photo asked with, and how much words count beside it
  $("asked").hidden = !photo;
  if ($("asked").dataset.photo !== (photo ?? "")) {
    $("asked").dataset.photo = photo ?? "";
    const before = $("asked-photo").src;
    if (before) URL.revokeObjectURL(before);
    if (photo) $("asked-photo").src = URL.createObjectURL(photos.get(photo));
    else $("asked-photo").removeAttribute("src");
  }
  $("share-field").hidden = !q.trim();
  $("share").value = share ?? .5;
}
