// The grid: asks for what the address says, shows products, more of them on request, a wait, a message or a fault.

import { go, photos, question, state } from "./address.js";
import { $, make, photo, priced, quoted } from "./elements.js";
import { ask, Fault } from "./service.js";

const PATIENCE_MS = 180;       // before a wait is shown
const STEP = 48;               // products shown at first, and with each press of "Show more"
const MOST = 200;              // that the service gives
const FAR = .5;                // of the best score: below it a product is much less alike than the first
export let hits = [];
let asked = "";                // the question of the shown results, and the number of the photo
let wanted = STEP;             // how many products are asked for
let flight = null;             // the request whose response is awaited

export function forget() { asked = ""; }   // so that the same is asked again

// Whether the service answered.
export async function showResults(now, { more = false } = {}) {
  const mark = `${question(now, 0)} ${now.photo ?? ""}`;
  if (mark === asked && !more) return false;
  wanted = more ? Math.min(wanted + STEP, MOST) : STEP;
  asked = mark;
  flight?.abort();
  const path = question(now, wanted);
  if (!path) { draw([], now); say(now); return false; }
  const mine = flight = new AbortController();
  const slow = setTimeout(() => showWaiting(more), PATIENCE_MS);
  try {
    const found = await (await ask(path, mine.signal, now.like ? undefined : photos.get(now.photo))).json();
    if (flight !== mine) return false;
    draw(found.hits, now, more ? hits.length : 0);
    say(now, found);
    return true;
  } catch (error) {
    if (flight === mine) showFault(error, now);
    return false;
  } finally {
    clearTimeout(slow);
    if (flight === mine) { $("progress").hidden = true; $("results").classList.remove("old"); $("results").removeAttribute("aria-busy"); }
  }
}

export async function showMore() {
  const before = hits.length;
  await showResults(state(), { more: true });
  const next = $("results").querySelectorAll(".tile a.open")[before];
  if (next) rove(next);
}

function showWaiting(more) {
  $("progress").hidden = false;
  $("message").hidden = true;
  $("results").setAttribute("aria-busy", "true");
  if (more) return;
  if (hits.length) $("results").classList.add("old");
  else $("results").replaceChildren(...Array.from({ length: 12 }, () => make("li", { className: "bone", ariaHidden: "true" })));
}

function say({ q, like, region, photo, labels, where }, { unknown_words: unknown = [], did_you_mean: meant = null } = {}) {
  const count = hits.length === 1 ? "The 1 product" : `The ${hits.length} products`;
  const nearest = like ? `most like ${region ? "this part" : "this one"}` : !photo ? `nearest to “${q}”` : `most like your photo${q ? ` and “${q}”` : ""}`;
  $("status").textContent = hits.length ? `${count} ${nearest}` : "";
  const strange = unknown.length ? `Not known here: ${quoted(unknown)}${hits.length ? `, so ${unknown.length > 1 ? "they do" : "it does"} not count` : ""}.` : "";
  const tries = meant ? ["Did you mean ", make("button", { type: "button", className: "text", text: meant, on: { click: () => go({ q: meant }) } }), "?"] : [];
  const besides = hits.length ? strange : "";   // with nothing found, the message says it
  $("note").replaceChildren(...[besides, ...(besides && meant ? [" "] : []), ...tries].filter(Boolean));
  if (hits.length || !(q || like || photo)) return;
  const advice = like || photo ? "Nothing else is like it here." : strange ? `${strange} Try other words.` : "Try fewer words or others, or take away a filter.";
  message("Nothing found", advice, labels.length + where.length ? ["Take away the filters", () => go({ labels: [], where: [] })] : null);
}

function message(title, text, act) {
  const parts = [make("h2", { text: title }), make("p", { text: text.charAt(0).toUpperCase() + text.slice(1) })];
  if (act) parts.push(make("button", { type: "button", className: "strong", text: act[0], on: { click: act[1] } }));
  $("message").replaceChildren(...parts);
  $("message").hidden = false;
}

function showFault(error, now) {
  const { labels, where, hybrid, late, photo } = now;
  draw([], now);
  $("status").textContent = $("note").textContent = "";
  const fault = error instanceof Fault ? error : new Fault("That did not work", String(error));
  const narrowed = labels.length + where.length > 0 || hybrid || late;
  const isOfPhoto = photo && [413, 415, 422].includes(fault.status) && !narrowed;
  message(fault.title, fault.message, isOfPhoto ? ["Remove the photo", () => go({ photo: null, share: null })] : fault.status === 422 && narrowed
    ? ["Take away the filters", () => go({ labels: [], where: [], hybrid: false, late: false })]
    : ["Try again", () => { forget(); dispatchEvent(new Event("go")); }]);
}

function draw(found, { hybrid }, from = 0) {  // the first `from` tiles stay as they are
  hits = found;
  $("message").hidden = true;
  const best = Math.max(...found.map((hit) => hit.score), 1e-9);
  const least = Math.min(...found.map((hit) => hit.score), 0);
  const digits = best < .1 ? 4 : 3;        // fused ranks are small numbers
  const far = hybrid ? -1 : found.findIndex((hit) => hit.score < FAR * best);
  const tiles = found.slice(from).map((hit) => tile(hit, (hit.score - least) / (best - least), digits));
  if (far > 0 && far >= from) tiles.splice(far - from, 0, make("li", { className: "far", text: "From here on, products are much less alike" }));
  if (from) $("results").append(...tiles); else $("results").replaceChildren(...tiles);
  const isFull = found.length >= wanted;
  $("more").hidden = !isFull;
  $("more-button").hidden = wanted >= MOST;
  $("more-says").textContent = isFull && wanted >= MOST ? `These are the nearest ${MOST}. One more word or a filter narrows them.` : "";
  if (found.length && !from) rove($("results").querySelector("a.open"), { focus: false });
}

function tile(hit, share, digits) {
  const id = hit.product_id;
  const name = hit.title ?? `Product ${id}`;
  const strength = make("i");
  strength.style.setProperty("--share", share.toFixed(3));
  const price = priced(hit);
  const figures = make("span", { className: "figure strip" }, make("span", { text: hit.score.toFixed(digits) }), make("span", { className: "strength" }, strength));
  const open = make("a", { className: "open", href: `#${new URLSearchParams({ open: id })}`, tabIndex: -1, ariaLabel: `${[name, price].filter(Boolean).join(" ")}, place ${hit.rank}`,
    on: { click: (event) => { if (event.metaKey || event.ctrlKey) return; event.preventDefault(); go({ open: id }); }, focus: (event) => rove(event.currentTarget, { focus: false }) } },
    photo(hit, ""), make("span", { className: "title", text: name }), " ", ...(price ? [make("span", { className: "price", text: price })] : []));
  const acts = make("span", { className: "under" },
    make("button", { type: "button", className: "text", tabIndex: -1, text: "More like this", ariaLabel: `More like this: ${name}`, on: { click: () => like(id) } }));
  if (hit.link) acts.append(make("a", { className: "out", href: hit.link, target: "_blank", rel: "noopener noreferrer", tabIndex: -1, text: "To the product", ariaLabel: `To the product: ${name}` }));
  return make("li", { className: "tile", data: { id } }, open, figures, acts);
}

export function like(id, region = null) {
  $("words").value = "";
  go({ q: "", like: id, region, photo: null, share: null, open: null });
  scrollTo({ top: 0 });
}

export function rove(link, { focus = true } = {}) {   // one tile at a time is in the tab order
  for (const other of $("results").querySelectorAll("a, button")) other.tabIndex = -1;
  for (const own of link.closest(".tile").querySelectorAll("a, button")) own.tabIndex = 0;
  if (focus) link.focus();
}

export function moveInGrid(event, link) {
  const links = [...$("results").querySelectorAll("a.open")];
  const at = links.indexOf(link);
  const target = { ArrowLeft: links[at - 1], ArrowRight: links[at + 1], Home: links[0], End: links.at(-1),
    ArrowUp: besides(links.slice(0, at).reverse(), link), ArrowDown: besides(links.slice(at + 1), link) }[event.key];
  if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
  event.preventDefault();
  if (target) rove(target);
  else if (event.key === "ArrowUp") $("words").focus();
}

function besides(links, link) {   // the first of the links that stands in the same column
  const { left } = link.getBoundingClientRect();
  return links.find((other) => Math.abs(other.getBoundingClientRect().left - left) < 2);
}

export function showAnchor({ like: id, region }) {   // what the results are like
  const mark = id ? `${id} ${region}` : "";
  if ($("anchor").dataset.mark === mark) return;
  $("anchor").dataset.mark = mark;
  $("anchor").hidden = !id;
  if (!id) { $("anchor").replaceChildren(); return; }
  const image = photo({ photo: `/photos/${encodeURIComponent(id)}` }, "").firstChild;
  image.classList.add("here");
  $("anchor").replaceChildren(image, make("span", { text: region ? "Like this part of it" : "More like this" }),
    make("button", { type: "button", text: "Clear", on: { click: () => { go({ like: null, region: null }); $("words").focus(); } } }));
}
