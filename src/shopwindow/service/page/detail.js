// One product: its photo, price and link; on request the parts of its photo, and which words show where.

import { go, state } from "./address.js";
import { $, make, notice, photo, priced, short, spaced } from "./elements.js";
import { hits, like, rove } from "./results.js";
import { ask, Fault } from "./service.js";

let flight = null;             // the request whose answer is awaited
let opened = "";               // what the detail shows: product and words
let pinned = null;             // the word or part that was tapped, which stays lit
let cells = { words: [], regions: [], rects: [], weights: [], most: 1 };

export async function showDetail({ open, q, like: liked }) {
  const dialog = $("detail");
  const mark = open ? `${open} ${q}` : "";
  if (mark === opened) return;
  opened = mark;
  flight?.abort();
  if (!open) { if (dialog.open) dialog.close(); focusTile(); return; }
  const mine = flight = new AbortController();
  $("detail-name").textContent = hits.find((hit) => hit.product_id === open)?.title ?? `Product ${open}`;
  $("detail-fault").textContent = "";
  placeInHits(open);
  if (!dialog.open) { clearDetail(); dialog.classList.remove("bare"); dialog.showModal(); }
  $("detail-name").focus();
  let drawn = false;
  try {
    const product = await (await ask(`/products/${encodeURIComponent(open)}`, mine.signal)).json();
    drawProduct(product);
    drawn = true;
    $("why").hidden = !q || Boolean(liked);
    if (q && !liked) drawWhy(await (await ask(`/products/${encodeURIComponent(open)}/explain?${new URLSearchParams({ q })}`, mine.signal)).json());
  } catch (error) {
    if (flight !== mine || mine.signal.aborted) return;
    if (!drawn && error instanceof Fault && error.status === 404) { go({ open: null }, { replace: true }); notice("This product is no longer here."); return; }
    if (!drawn) clearDetail();
    dialog.classList.toggle("bare", !drawn);
    $("why").hidden = cells.words.length === 0;
    $("detail-fault").textContent = error instanceof Fault ? `${error.title}: ${error.message}` : String(error);
  }
}

function clearDetail() {
  cells = { words: [], regions: [], rects: [], weights: [], most: 1 };
  pinned = null;
  for (const id of ["frame", "regions", "why-words"]) $(id).replaceChildren();
  $("detail-price").textContent = $("detail-id").textContent = "";
  $("texts-section").hidden = $("values-section").hidden = $("why").hidden = $("regions-section").hidden = $("acts").hidden = true;
}

function placeInHits(open) {
  const at = hits.findIndex((hit) => hit.product_id === open);
  $("detail-score").textContent = at < 0 ? "" : `Place ${hits[at].rank}, score ${hits[at].score.toFixed(4)}`;
  $("before").disabled = at <= 0;
  $("after").disabled = at < 0 || at >= hits.length - 1;
  return at;
}

export function step(by) {
  const at = placeInHits(state().open) + by;
  if (at >= 0 && at < hits.length && placeInHits(state().open) >= 0) go({ open: hits[at].product_id }, { replace: true });
}

function drawProduct(product) {
  clearDetail();
  $("detail").classList.remove("bare");
  $("regions-section").hidden = $("acts").hidden = false;
  const id = product.product_id;
  const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  box.setAttribute("viewBox", `0 0 ${product.image_w} ${product.image_h}`);
  box.setAttribute("preserveAspectRatio", "none");
  box.setAttribute("aria-hidden", "true");
  const area = ({ box: one }) => (one.bottom - one.top) * (one.right - one.left);
  cells.rects = product.regions.map((region) => rectangle(region));
  for (const region of [...product.regions].sort((one, other) => area(other) - area(one))) box.append(cells.rects[region.region]);
  if (product.title) $("detail-name").textContent = product.title;
  $("detail-id").textContent = product.title ? `Product ${id}` : "";
  $("detail-price").textContent = priced(product);
  $("link").hidden = !product.link;
  if (product.link) $("link").href = product.link; else $("link").removeAttribute("href");
  $("regions-section").hidden = product.regions.length === 0;
  showParts($("see").getAttribute("aria-pressed") === "true");
  const shown = photo(product, `Photo of ${product.title ?? `product ${id}`}`);
  const image = shown.querySelector("img");
  $("frame").style.setProperty("--ratio", product.image_w / product.image_h);
  $("frame").replaceChildren(image ?? shown, box);
  image?.addEventListener("error", () => $("frame").prepend(shown));
  image?.classList.add("here");
  $("regions").replaceChildren(...product.regions.map((region) => regionRow(id, region)));
  cells.regions = [...$("regions").children];
  $("texts-section").hidden = product.texts.length === 0;
  $("texts").textContent = product.texts.join(" · ");
  const values = Object.entries(product.values).filter(([, value]) => ![product.title, product.link, product.price, product.currency].includes(value));
  $("values-section").hidden = values.length === 0;
  $("values").replaceChildren(...values.map(([name, value]) => make("div", {}, make("dt", { text: spaced(name) }), make("dd", { text: value.toLocaleString() }))));
  $("like").onclick = () => like(id);
}

function showParts(on) {       // boxes on the photo, and the list of them
  $("see").setAttribute("aria-pressed", String(on));
  $("see").textContent = on ? "Hide the parts of the photo" : "Show the parts of the photo";
  $("frame").classList.toggle("boxes", on);
  $("regions").hidden = !on;
}

export function listen() {
  $("see").addEventListener("click", () => showParts($("see").getAttribute("aria-pressed") !== "true"));
}

function pin(element, light) { // a tap lights a word or part, a second one takes that away
  const isNew = pinned?.element !== element;
  pinned = isNew ? { element, light } : null;
  for (const one of $("detail").querySelectorAll("[aria-pressed]")) if (one !== $("see")) one.setAttribute("aria-pressed", String(one === pinned?.element));
  if (isNew) light(); else dim();
}

function rectangle({ region, box: { top, left, bottom, right } }) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top, rx: 2 })) rect.setAttribute(name, value);
  rect.addEventListener("pointerenter", () => lightRegion(region));
  rect.addEventListener("pointerleave", dim);
  return rect;
}

function regionRow(id, { region, label_name: name }) {
  const lights = { pointerenter: () => lightRegion(region), pointerleave: dim };
  return make("li", { on: lights },
    make("button", { type: "button", ariaPressed: "false", on: { click: (event) => pin(event.currentTarget, () => lightRegion(region)), focus: () => lightRegion(region), blur: dim } }, make("span", { className: "number", text: region + 1 }), short(name)),
    make("button", { type: "button", className: "near", text: "More like this part", ariaLabel: `More like this part: ${region + 1}, ${short(name)}`,
      on: { click: () => like(id, String(region)), focus: () => lightRegion(region), blur: dim } }));
}

function drawWhy({ words, weights }) {
  cells.weights = weights;
  cells.most = Math.max(1e-9, ...weights.flat());
  cells.words = words.map((text, word) => make("button", { type: "button", text, ariaPressed: "false",
    on: { click: (event) => pin(event.currentTarget, () => lightWord(word)), pointerenter: () => lightWord(word), pointerleave: dim, focus: () => lightWord(word), blur: dim } }));
  $("why-words").replaceChildren(...cells.words);
  $("why").hidden = words.length === 0;
  dim();
}

const weight = (word, region) => Math.max(0, cells.weights[word]?.[region] ?? 0) / cells.most;

function paint(element, lit, value) {
  if (!element) return;
  element.classList.toggle("lit", lit);
  element.style.setProperty("--weight", value.toFixed(3));
}

function lightWord(word) {     // the regions that the word looks at
  $("frame").classList.add("asked");
  cells.words.forEach((element, one) => paint(element, one === word, one === word ? 1 : 0));
  cells.rects.forEach((rect, region) => { const value = weight(word, region); paint(rect, value > .15, value); paint(cells.regions[region], value > .15, value); });
}

function lightRegion(region) { // the words that look at the region
  $("frame").classList.add("asked");
  cells.rects.forEach((rect, one) => paint(rect, one === region, one === region ? .6 : 0));
  cells.regions.forEach((row, one) => paint(row, one === region, .3));
  cells.words.forEach((element, word) => { const value = weight(word, region); paint(element, value > .15, value); });
}

function dim() {
  if (pinned) { pinned.light(); return; }
  $("frame").classList.remove("asked");
  cells.rects.forEach((rect) => paint(rect, false, 0));
  cells.regions.forEach((row) => paint(row, false, 0));
  cells.words.forEach((element, word) => paint(element, false, Math.max(0, ...cells.rects.map((_, region) => weight(word, region))) * .6));
}

let last = null;               // the tile that the detail was opened from
export function closed() {
  last = state().open ?? last;
  if (state().open) go({ open: null });
}

function focusTile() {
  const link = last && $("results").querySelector(`[data-id="${CSS.escape(last)}"] a`);
  if (link) rove(link);
  last = null;
}
