// The page: words or a photo in, photos out. What it shows is said by the address (address.js); here are keys, typing and the start.

import { go, NOTHING, state } from "./address.js";
import { closed, showDetail, step } from "./detail.js";
import { $, make } from "./elements.js";
import { offer, showFilters } from "./filters.js";
import { listen, showAsked } from "./photo.js";
import { forget, hits, like, moveInGrid, rove, showAnchor, showResults } from "./results.js";
import { ask, key } from "./service.js";

const PAUSE_MS = 120;          // after the last letter

async function show() {
  const now = state();
  if ($("words").value.trim() !== now.q) $("words").value = now.q;
  document.body.classList.toggle("resting", !now.q.trim() && !now.like && !now.photo);
  document.title = now.q ? `${now.q} · shopwindow` : "shopwindow";
  showFilters(now);
  showAnchor(now);
  showAsked(now);
  if (await showResults(now)) about();
  await showDetail(state());
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if ($("key").open) return;
  if ($("detail").open) {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
    return;
  }
  const at = document.activeElement;
  if (at?.matches?.("#filter input, #filter select") && event.key !== "Escape") return;
  const typing = at === $("words");
  const link = at?.closest?.("#results a");
  if (event.key === "/" && !typing) { event.preventDefault(); $("words").focus(); $("words").select(); }
  else if (event.key === "Escape") escape(typing);
  else if (typing && event.key === "ArrowDown" && hits.length) { event.preventDefault(); rove($("results").querySelector("a")); }
  else if (link && event.key.toLowerCase() === "m") like(link.parentElement.dataset.id);
  else if (link) moveInGrid(event, link);
}

function escape(typing) {
  if ($("filter").open) { $("filter").open = false; $("filter-says").focus(); }
  else if (typing) { $("words").value = ""; go({ q: "", like: null, region: null }); }
  else { $("words").focus(); $("words").select(); }
}

let typed = 0;
let writing = false;           // letters since the last pause belong to one step of the history
function type() {
  clearTimeout(typed);
  typed = setTimeout(() => {
    const q = $("words").value.trim();
    if (q === state().q) return;
    go({ q, like: null, region: null, open: null }, { replace: writing });
    writing = true;
  }, PAUSE_MS);
}

async function start() {
  $("words").addEventListener("input", type);
  $("words").addEventListener("blur", () => { writing = false; });
  $("form").addEventListener("submit", (event) => { event.preventDefault(); if (hits.length) rove($("results").querySelector("a")); });
  $("home").addEventListener("click", (event) => { event.preventDefault(); $("words").value = ""; go(NOTHING); $("words").focus(); });
  $("detail").addEventListener("close", closed);
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
  $("close").addEventListener("click", () => $("detail").close());
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("key-form").addEventListener("submit", () => { key.set($("key-text").value.trim()); forget(); about().finally(show); });
  document.addEventListener("keydown", pressed);
  document.addEventListener("click", (event) => { if (!$("filter").contains(event.target)) $("filter").open = false; });
  listen();
  addEventListener("go", show);
  addEventListener("popstate", show);
  addEventListener("hashchange", show);
  $("words").focus();
  about().finally(show);
}

let told = null;               // the promise of what the index says of itself; null where it did not say it
function about() {
  told ??= ask("/index").then((answer) => answer.json()).then(tell).catch(() => { told = null; });
  return told;
}

function tell(told) {
  offer(told);
  $("by-photo").hidden = !told.ways.photo;
  if (told.ways.photo) $("words").placeholder = "A colour, a thing, a material, or a photo";
  if (Number.isFinite(told.stats.products)) $("about").textContent = `${told.stats.products.toLocaleString()} products in the window`;
  const tries = told.suggestions.map((words) => make("button", { type: "button", text: words, on: { click: () => go({ q: words }) } }));
  showFilters(state());
  $("hint").replaceChildren(...(tries.length ? ["Perhaps ", ...tries.flatMap((one, at) => (at ? [", ", one] : [one]))] : []));
}

start();
