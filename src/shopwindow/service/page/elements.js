// Making elements. Everything from the service is set as text, never as markup.

import { ask, key } from "./service.js";

const NOTICE_MS = 6000;
export const $ = (id) => document.getElementById(id);
export const short = (name) => name.replace(/\s*\(.*/, "");
export const quoted = (words) => words.map((word) => `“${word}”`).join(", ");
export const spaced = (column) => column.replaceAll("_", " ");

export function make(tag, { text, on = {}, data = {}, ...rest } = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), rest);
  if (text !== undefined) element.textContent = text;
  for (const [name, does] of Object.entries(on)) element.addEventListener(name, does);
  Object.assign(element.dataset, data);
  element.append(...inside);
  return element;
}

// A price as people write it: 2.5 with EUR is €2.50. Of another sign the number stands first.
export function priced({ price, currency }) {
  if (price === null || price === undefined) return "";
  if (typeof price !== "number") return [price, currency].filter(Boolean).join(" ");
  if (/^[A-Z]{3}$/.test(currency ?? "")) {
    try { return price.toLocaleString(undefined, { style: "currency", currency }); } catch { /* no such currency */ }
  }
  const number = price.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  return currency ? `${number} ${currency}` : number;
}

let hiding = 0;
export function notice(text) {  // a line at the foot of the window that goes by itself
  clearTimeout(hiding);
  $("notice").textContent = text;
  $("notice").hidden = false;
  hiding = setTimeout(() => { $("notice").hidden = true; }, NOTICE_MS);
}

export function photo(product, alt) {
  const frame = make("span", { className: "photo" });
  if (!product.photo) { frame.classList.add("gone"); return frame; }
  const image = make("img", { alt, width: product.image_w, height: product.image_h, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => image.classList.add("here"));
  image.addEventListener("error", () => { image.remove(); frame.classList.add("gone"); });
  frame.append(image);
  if (key.get() && product.photo.startsWith("/")) fetchPhoto(product.photo, image); else image.src = product.photo;
  return frame;
}

async function fetchPhoto(path, image) {   // an image element cannot send a key
  try {
    image.src = URL.createObjectURL(await (await ask(path)).blob());
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  } catch { image.dispatchEvent(new Event("error")); }
}
