// The grid: asks for what the address says, shows photos with scores, a wait, a message or a fault.

import { go, photos, question, state } from "./address.js";
import { $, make, photo, spaced } from "./elements.js";
import { ask, Fault } from "./service.js";

const PATIENCE_MS = 180;       // before a wait is shown
const COLUMNS = 2;             // of numbers, such as the price, that are shown with a photo
export let hits = [];
let asked = "";                // the address of the shown results, and the number of the photo
let flight = null;             // the request whose answer is awaited

export function forget() { asked = ""; }   // so that the same is asked again

// Whether the service answered.
export async function showResults(now) {
  const path = question(now);
  const mark = `${path} ${now.photo ?? ""}`;
  if (mark === asked) return false;
  asked = mark;
  flight?.abort();
  if (!path) { draw([]); $("status").textContent = ""; return false; }
  const mine = flight = new AbortController();
  const slow = setTimeout(showWaiting, PATIENCE_MS);
  try {
    const answer = await (await ask(path, mine.signal, now.like ? undefined : photos.get(now.photo))).json();
    if (flight !== mine) return false;
    draw(answer.hits);
    say(now, answer.unknown_words ?? []);
    return true;
  } catch (error) {
    if (flight === mine) showFault(error, now);
    return false;
  } finally {
    clearTimeout(slow);
    if (flight === mine) { $("progress").hidden = true; $("results").classList.remove("old"); $("results").removeAttribute("aria-busy"); }
  }
}

function showWaiting() {
  $("progress").hidden = false;
  $("message").hidden = true;
  $("results").setAttribute("aria-busy", "true");
  if (hits.length) $("results").classList.add("old");
  else $("results").replaceChildren(...Array.from({ length: 12 }, () => make("li", { className: "bone", ariaHidden: "true" })));
}

function say({ q, like, region, photo, labels, where }, unknown) {
  const count = hits.length === 1 ? "The 1 product" : `The ${hits.length} products`;
  const strange = unknown.map((word) => `“${word}”`).join(", ");
  const nearest = like ? `most like ${region ? "this part" : "this one"}` : !photo ? `nearest to “${q}”`
    : `most like your photo${q ? ` and “${q}”` : ""}${strange ? `. Not known here: ${strange}` : ""}`;
  $("status").textContent = hits.length ? `${count} ${nearest}` : "";
  if (hits.length) return;
  const advice = like || photo ? "Nothing else is like it here."
    : strange ? `Not known here: ${strange}. Try other words.` : "Try fewer words or others, or take away a filter.";
  message("Nothing found", advice, labels.length + where.length ? ["Take away the filters", () => go({ labels: [], where: [] })] : null);
}

function message(title, text, act) {
  const parts = [make("h2", { text: title }), make("p", { text: text.charAt(0).toUpperCase() + text.slice(1) })];
  if (act) parts.push(make("button", { type: "button", className: "strong", text: act[0], on: { click: act[1] } }));
  $("message").replaceChildren(...parts);
  $("message").hidden = false;
}

function showFault(error, { labels, where, hybrid, late, photo }) {
  draw([]);
  $("status").textContent = "";
  const fault = error instanceof Fault ? error : new Fault("That did not work", String(error));
  const narrowed = labels.length + where.length > 0 || hybrid || late;
  const isOfPhoto = photo && [413, 415, 422].includes(fault.status) && !narrowed;
  message(fault.title, fault.message, isOfPhoto ? ["Remove the photo", () => go({ photo: null, share: null })] : fault.status === 422 && narrowed
    ? ["Take away the filters", () => go({ labels: [], where: [], hybrid: false, late: false })]
    : ["Try again", () => { forget(); dispatchEvent(new Event("go")); }]);
}

function draw(found) {
  hits = found;
  $("message").hidden = true;
  const best = Math.max(...found.map((hit) => hit.score), 1e-9);
  const least = Math.min(...found.map((hit) => hit.score), 0);
  const digits = best < .1 ? 4 : 3;        // fused ranks are small numbers
  const names = [...new Set(found.flatMap(({ values }) => Object.keys(values).filter((name) => typeof values[name] === "number")))];
  const columns = names.slice(0, COLUMNS);
  const titled = found.some(({ title }) => title);
  $("results").replaceChildren(...found.map((hit) => tile(hit, (hit.score - least) / (best - least), digits, columns, titled)));
  if (found.length) rove($("results").firstChild.querySelector("a"), { focus: false });
}

const unseen = (text) => make("span", { className: "unseen", text });

function tile(hit, share, digits, columns, titled) {
  const id = hit.product_id;
  const name = hit.title ?? `Product ${id}`;
  const strength = make("i");
  strength.style.setProperty("--share", share.toFixed(3));
  const score = hit.score.toFixed(digits);
  const known = columns.filter((name) => name in hit.values).map((name) => `${spaced(name)} ${hit.values[name].toLocaleString()}`);
  return make("li", { className: "tile", data: { id } },
    make("a", { href: `#${new URLSearchParams({ open: id })}`, tabIndex: -1,
      on: { click: (event) => { if (event.metaKey || event.ctrlKey) return; event.preventDefault(); go({ open: id }); }, focus: (event) => rove(event.currentTarget, { focus: false }) } },
      unseen(`${name}, place ${hit.rank}, `), photo(hit, ""),
      ...(titled ? [make("span", { className: "title", ariaHidden: "true", text: name })] : []),
      ...(columns.length ? [make("span", { className: "known", text: known.join(" · ") })] : []),
      unseen(" score "),
      make("span", { className: "under" }, make("span", { text: score }), make("span", { className: "strength" }, strength))),
    make("button", { type: "button", tabIndex: -1, text: "Similar", ariaLabel: `Similar to ${hit.title ?? `product ${id}`}`, on: { click: () => like(id) } }));
}

export function like(id, region = null) {
  $("words").value = "";
  go({ q: "", like: id, region, photo: null, share: null, open: null });
  scrollTo({ top: 0 });
}

export function rove(link, { focus = true } = {}) {   // one tile at a time is in the tab order
  for (const other of $("results").querySelectorAll("a, button")) other.tabIndex = -1;
  link.tabIndex = 0;
  link.parentElement.querySelector("button").tabIndex = 0;
  if (focus) link.focus();
}

export function moveInGrid(event, link) {
  const links = [...$("results").querySelectorAll("a")];
  const at = links.indexOf(link);
  const across = getComputedStyle($("results")).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -at, End: links.length - 1 - at }[event.key];
  if (by === undefined) return;
  event.preventDefault();
  if (at + by < 0 && event.key === "ArrowUp") { $("words").focus(); return; }
  rove(links[Math.min(Math.max(at + by, 0), links.length - 1)]);
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
