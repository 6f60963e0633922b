// The page: words or a photo in, photos out. What it shows is said by the address (address.js); here are keys, typing and the start.

import { go, NOTHING, state } from "./address.js";
import { closed, listen as listenInDetail, showDetail, step } from "./detail.js";
import { $, make } from "./elements.js";
import * as filters from "./filters.js";
import { listen, showAsked } from "./photo.js";
import { forget, hits, like, moveInGrid, rove, showAnchor, showMore, showResults } from "./results.js";
import { ask, key } from "./service.js";
import * as suggestions from "./suggestions.js";

const PAUSE_MS = 120;          // after the last letter

async function show() {
  const now = state();
  if ($("words").value.trim() !== now.q) $("words").value = now.q;
  $("clear").hidden = !$("words").value;
  document.body.classList.toggle("resting", !now.q.trim() && !now.like && !now.photo);
  document.title = now.q ? `${now.q} · shopwindow` : "shopwindow";
  filters.showFilters(now);
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
  const link = at?.closest?.("#results a.open");
  if (typing && suggestions.pressed(event.key)) { event.preventDefault(); return; }
  if (event.key === "/" && !typing) { event.preventDefault(); $("words").focus(); $("words").select(); }
  else if (event.key === "Escape") escape(typing);
  else if (typing && event.key === "ArrowDown" && hits.length) { event.preventDefault(); rove($("results").querySelector("a.open")); }
  else if (link && event.key.toLowerCase() === "m") like(link.closest(".tile").dataset.id);
  else if (link) moveInGrid(event, link);
}

function escape(typing) {
  if ($("filter").open && !filters.isColumn()) { filters.close(); $("filter-says").focus(); }
  else if (typing) clear();
  else { $("words").focus(); $("words").select(); }
}

function clear() {
  suggestions.close();
  $("words").value = "";
  go({ q: "", like: null, region: null });
  $("words").focus();
}

function showFigures(on) {     // scores and labels, for who tends the search
  document.body.classList.toggle("figures", on);
  $("figures").setAttribute("aria-pressed", String(on));
  $("figures").textContent = on ? "Hide figures" : "Show figures";
  localStorage.setItem("figures", on ? "on" : "off");
}

let typed = 0;
let writing = false;           // letters since the last pause belong to one step of the history
function type() {
  $("clear").hidden = !$("words").value;
  clearTimeout(typed);
  typed = setTimeout(() => {
    const q = $("words").value.trim();
    suggestions.suggest(q);
    search(q);
  }, PAUSE_MS);
}

function search(q) {
  if (q === state().q) return;
  go({ q, like: null, region: null, open: null }, { replace: writing });
  writing = true;
}

function take() {              // Enter waits for no pause; the conditions among the words become filters
  clearTimeout(typed);
  suggestions.close();
  const { q, where } = filters.parted($("words").value);
  if (!where.length) { search(q.trim()); return; }
  $("words").value = q;
  go({ q, where: filters.replaced(state().where, where), like: null, region: null, open: null });
}

async function start() {
  $("words").addEventListener("input", type);
  $("words").addEventListener("blur", () => { writing = false; suggestions.close(); });
  $("clear").addEventListener("click", clear);
  $("more-button").addEventListener("click", showMore);
  $("figures").addEventListener("click", () => showFigures(!document.body.classList.contains("figures")));
  showFigures(localStorage.getItem("figures") === "on");
  $("form").addEventListener("submit", (event) => { event.preventDefault(); take(); if (hits.length) rove($("results").querySelector("a.open")); });
  $("home").addEventListener("click", (event) => { event.preventDefault(); $("words").value = ""; go(NOTHING); $("words").focus(); });
  $("detail").addEventListener("close", closed);
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
  $("close").addEventListener("click", () => $("detail").close());
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("key-form").addEventListener("submit", () => { key.set($("key-text").value.trim()); forget(); about().finally(show); });
  document.addEventListener("keydown", pressed);
  document.addEventListener("click", (event) => { if (!$("filter").contains(event.target)) filters.close(); });
  addEventListener("scroll", suggestions.close, { passive: true });
  listen();
  listenInDetail();
  addEventListener("go", show);
  addEventListener("popstate", show);
  addEventListener("hashchange", show);
  $("words").focus();
  about().finally(show);
}

let loading = null;            // the promise of what the index says of itself; null where it did not say it
function about() {
  loading ??= ask("/index").then((response) => response.json()).then(tell).catch(() => { loading = null; });
  return loading;
}

function tell(index) {
  filters.offer(index);
  $("by-photo").hidden = !index.ways.photo;
  if (index.ways.photo) $("words").placeholder = "A colour, a thing, a material, or a photo";
  if (Number.isFinite(index.stats.products)) $("about").textContent = `${index.stats.products.toLocaleString()} products`;
  const tries = index.suggestions.map((words) => make("button", { type: "button", text: words, on: { click: () => go({ q: words }) } }));
  filters.showFilters(state());
  $("hint").replaceChildren(...(tries.length ? ["Try ", ...tries.flatMap((one, at) => (at ? [", ", one] : [one]))] : []));
}

start();
