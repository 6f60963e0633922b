// The page: words in, photos out. State lives in the address after #, which no server ever sees; so back, forward and
// bookmarks work. Everything from the service is set as text, never as markup.

const HITS = 48;
const PAUSE_MS = 120;          // after the last letter
const PATIENCE_MS = 180;       // before a wait is shown
const TRIES = 3;
const $ = (id) => document.getElementById(id);
const key = { get: () => sessionStorage.getItem("key"), set: (text) => sessionStorage.setItem("key", text) };
const names = new Map();       // of labels
let hits = [];
let asked = "";                // the address of the shown results
let flight = null;             // the request whose answer is awaited
let detailFlight = null;

/* ---- state ---- */

function state() {
  const at = new URLSearchParams(location.hash.slice(1));
  return { q: at.get("q") ?? "", labels: at.getAll("label"), like: at.get("like"), region: at.get("region"), open: at.get("open") };
}

function go(change, { replace = false } = {}) {
  const next = { ...state(), ...change };
  const at = new URLSearchParams();
  for (const name of ["q", "like", "region", "open"]) if (next[name] !== null && next[name] !== "") at.set(name, next[name]);
  for (const label of next.labels) at.append("label", label);
  const address = at.size ? `#${at}` : location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  show();
}

function question({ q, labels, like, region }) {
  const at = new URLSearchParams({ k: HITS });
  for (const label of labels) at.append("label", label);
  if (like) {
    if (region) at.set("region", region);
    return `/products/${like}/similar?${at}`;
  }
  if (!q.trim()) return "";
  at.set("q", q.trim());
  return `/search?${at}`;
}

/* ---- asking the service ---- */

class Fault extends Error {
  constructor(title, detail, status = 0) { super(detail); this.title = title; this.status = status; }
}

const wait = (ms, signal) => new Promise((done, stop) => {
  const timer = setTimeout(done, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); stop(signal.reason); });
});

async function ask(path, signal) {
  for (let left = TRIES - 1; ; left--) {
    let answer;
    try {
      answer = await fetch(path, { signal, headers: key.get() ? { Authorization: `Bearer ${key.get()}` } : {} });
    } catch (error) {
      if (signal?.aborted) throw error;
      if (left > 0) { await wait(400, signal); continue; }
      throw new Fault("The search does not answer", "Perhaps it is being restarted, or the connection is gone.");
    }
    if (answer.ok) return answer;
    if (answer.status === 503 && left > 0) { await wait(1000 * Number(answer.headers.get("Retry-After") ?? 1), signal); continue; }
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) askForKey();
    throw new Fault(TITLES[answer.status] ?? "That did not work", problem.detail ?? `status ${answer.status}`, answer.status);
  }
}

const TITLES = { 401: "A key is needed", 404: "Not in this shop", 422: "That cannot be searched", 503: "Many are searching right now" };

function askForKey() {
  if (!$("key").open) $("key").showModal();
}

/* ---- making elements ---- */

function make(tag, { text, on = {}, data = {}, ...rest } = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), rest);
  if (text !== undefined) element.textContent = text;
  for (const [name, does] of Object.entries(on)) element.addEventListener(name, does);
  Object.assign(element.dataset, data);
  element.append(...inside);
  return element;
}

function photo(product, alt) {
  const frame = make("span", { className: "photo" });
  if (!product.photo) { frame.classList.add("gone"); return frame; }
  const image = make("img", { alt, width: product.image_w, height: product.image_h, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => image.classList.add("here"));
  image.addEventListener("error", () => { image.remove(); frame.classList.add("gone"); });
  frame.append(image);
  if (key.get()) fetchPhoto(product.photo, image); else image.src = product.photo;
  return frame;
}

async function fetchPhoto(path, image) {   // an image element cannot send a key
  try {
    image.src = URL.createObjectURL(await (await ask(path)).blob());
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  } catch { image.dispatchEvent(new Event("error")); }
}

const idOf = (product) => product.href.split("/").pop();   // as text: ids may exceed what a number holds
const short = (name) => name.replace(/\s*\(.*/, "");

/* ---- results ---- */

async function show() {
  const now = state();
  const path = question(now);
  if ($("words").value.trim() !== now.q) $("words").value = now.q;
  document.body.classList.toggle("resting", !path);
  document.title = now.q ? `${now.q} · shopwindow` : "shopwindow";
  showFilters(now);
  showAnchor(now);
  if (path !== asked) await find(path, now);
  await showDetail(state());
}

async function find(path, now) {
  asked = path;
  flight?.abort();
  if (!path) { draw([]); $("status").textContent = ""; return; }
  const mine = flight = new AbortController();
  const slow = setTimeout(showWaiting, PATIENCE_MS);
  try {
    const answer = await (await ask(path, mine.signal)).json();
    if (flight !== mine) return;
    draw(answer.hits);
    say(now);
  } catch (error) {
    if (flight !== mine) return;
    showFault(error);
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

function say({ q, like, region }) {
  const count = hits.length === 1 ? "The 1 product" : `The ${hits.length} products`;
  $("status").textContent = !hits.length ? "" : like ? `${count} most like ${region ? "this part" : "this one"}` : `${count} nearest to “${q}”`;
  if (!hits.length) {
    message("Nothing found", like ? "Nothing else is like it." : "Try fewer words or others, or take away a filter.",
      state().labels.length ? ["Take away the filters", () => go({ labels: [] })] : null);
  }
}

function message(title, text, act) {
  const parts = [make("h2", { text: title }), make("p", { text })];
  if (act) parts.push(make("button", { type: "button", className: "strong", text: act[0], on: { click: act[1] } }));
  $("message").replaceChildren(...parts);
  $("message").hidden = false;
}

function showFault(error) {
  draw([]);
  $("status").textContent = "";
  const fault = error instanceof Fault ? error : new Fault("That did not work", String(error));
  message(fault.title, fault.message, ["Try again", () => { asked = ""; show(); }]);
}

function draw(found) {
  hits = found;
  $("message").hidden = true;
  const best = Math.max(...found.map((hit) => hit.score), 1e-9);
  const least = Math.min(...found.map((hit) => hit.score), 0);
  $("results").replaceChildren(...found.map((hit) => tile(hit, (hit.score - least) / (best - least))));
  if (found.length) rove($("results").firstChild.querySelector("a"), { focus: false });
}

function tile(hit, share) {
  const id = idOf(hit);
  const strength = make("i");
  strength.style.setProperty("--share", share.toFixed(3));
  const score = hit.score.toFixed(3);
  return make("li", { className: "tile", data: { id } },
    make("a", { href: `#open=${id}`, tabIndex: -1, ariaLabel: `Product ${id}, place ${hit.rank}, score ${score}`,
      on: { click: (event) => { if (event.metaKey || event.ctrlKey) return; event.preventDefault(); go({ open: id }); }, focus: (event) => rove(event.currentTarget, { focus: false }) } },
      photo(hit, ""),
      make("span", { className: "under" }, make("span", { text: score }), make("span", { className: "strength" }, strength))),
    make("button", { type: "button", tabIndex: -1, text: "Similar", ariaLabel: `Similar to product ${id}`, on: { click: () => like(id) } }));
}

function like(id, region = null) {
  $("words").value = "";
  go({ q: "", like: id, region, open: null });
  scrollTo({ top: 0 });
}

function rove(link, { focus = true } = {}) {   // one tile at a time is in the tab order
  for (const other of $("results").querySelectorAll("a, button")) other.tabIndex = -1;
  link.tabIndex = 0;
  link.parentElement.querySelector("button").tabIndex = 0;
  if (focus) link.focus();
}

function showFilters({ labels }) {
  for (const box of $("labels").querySelectorAll("input")) box.checked = labels.includes(box.value);
  const first = short(names.get(labels[0]) ?? "");
  $("filter-says").textContent = labels.length === 0 ? "All kinds" : labels.length === 1 ? first : `${labels.length} kinds`;
  $("chips").replaceChildren(...labels.map((label) => make("li", {}, make("button", {
    type: "button", text: `${short(names.get(label) ?? label)} ✕`, ariaLabel: `Remove filter ${names.get(label) ?? label}`,
    on: { click: () => go({ labels: labels.filter((one) => one !== label) }) } }))));
}

async function showAnchor({ like: id, region }) {
  const mark = id ? `${id} ${region}` : "";
  if ($("anchor").dataset.mark === mark) return;
  $("anchor").dataset.mark = mark;
  $("anchor").hidden = !id;
  if (!id) { $("anchor").replaceChildren(); return; }
  const image = photo({ photo: `/photos/${id}` }, "").firstChild;
  image.classList.add("here");
  $("anchor").replaceChildren(image, make("span", { text: region ? "Like this part of it" : "More like this" }),
    make("button", { type: "button", text: "Clear", on: { click: () => { go({ like: null, region: null }); $("words").focus(); } } }));
}

/* ---- detail ---- */

let opened = "";               // what the detail shows: product and words
let cells = { words: [], regions: [], rects: [], weights: [], most: 1 };

async function showDetail({ open, q, like: liked }) {
  const dialog = $("detail");
  const mark = open ? `${open} ${q}` : "";
  if (mark === opened) return;
  opened = mark;
  detailFlight?.abort();
  if (!open) { if (dialog.open) dialog.close(); focusTile(); return; }
  const mine = detailFlight = new AbortController();
  $("detail-name").textContent = `Product ${open}`;
  $("detail-fault").textContent = "";
  placeInHits(open);
  if (!dialog.open) { clearDetail(); dialog.showModal(); $("detail-name").focus?.(); }
  try {
    const product = await (await ask(`/products/${encodeURIComponent(open)}`, mine.signal)).json();
    drawProduct(product);
    $("why").hidden = !q || Boolean(liked);
    if (q && !liked) drawWhy(await (await ask(`/products/${open}/explain?${new URLSearchParams({ q })}`, mine.signal)).json());
  } catch (error) {
    if (detailFlight !== mine || mine.signal.aborted) return;
    $("why").hidden = cells.words.length === 0;
    $("detail-fault").textContent = error instanceof Fault ? `${error.title}: ${error.message}` : String(error);
  }
}

function clearDetail() {
  cells = { words: [], regions: [], rects: [], weights: [], most: 1 };
  for (const id of ["frame", "regions", "why-words"]) $(id).replaceChildren();
  $("texts-section").hidden = $("why").hidden = true;
}

function placeInHits(open) {
  const at = hits.findIndex((hit) => idOf(hit) === open);
  $("detail-score").textContent = at < 0 ? "" : `place ${hits[at].rank}, score ${hits[at].score.toFixed(4)}`;
  $("before").disabled = at <= 0;
  $("after").disabled = at < 0 || at >= hits.length - 1;
  return at;
}

function step(by) {
  const at = placeInHits(state().open) + by;
  if (at >= 0 && at < hits.length && placeInHits(state().open) >= 0) go({ open: idOf(hits[at]) }, { replace: true });
}

function drawProduct(product) {
  clearDetail();
  const id = idOf(product);
  const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  box.setAttribute("viewBox", `0 0 ${product.image_w} ${product.image_h}`);
  box.setAttribute("preserveAspectRatio", "none");
  box.setAttribute("aria-hidden", "true");
  const area = ({ box: one }) => (one.bottom - one.top) * (one.right - one.left);
  cells.rects = product.regions.map((region) => rectangle(region));
  for (const region of [...product.regions].sort((one, other) => area(other) - area(one))) box.append(cells.rects[region.region]);
  const shown = photo(product, `Photo of product ${id}`);
  const image = shown.querySelector("img");
  $("frame").style.setProperty("--ratio", product.image_w / product.image_h);
  $("frame").replaceChildren(image ?? shown, box);
  image?.addEventListener("error", () => $("frame").prepend(shown));
  image?.classList.add("here");
  $("regions").replaceChildren(...product.regions.map((region) => regionRow(id, region)));
  cells.regions = [...$("regions").children];
  $("texts-section").hidden = product.texts.length === 0;
  $("texts").textContent = product.texts.join(" · ");
  $("like").onclick = () => like(id);
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
    make("button", { type: "button", on: { focus: () => lightRegion(region), blur: dim } }, make("span", { className: "number", text: region + 1 }), short(name)),
    make("button", { type: "button", className: "near", text: "Find alike", ariaLabel: `Find alike part ${region + 1}, ${short(name)}`,
      on: { click: () => like(id, String(region)), focus: () => lightRegion(region), blur: dim } }));
}

function drawWhy({ words, weights }) {
  cells.weights = weights;
  cells.most = Math.max(1e-9, ...weights.flat());
  cells.words = words.map((text, word) => make("button", { type: "button", text,
    on: { pointerenter: () => lightWord(word), pointerleave: dim, focus: () => lightWord(word), blur: dim } }));
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
  $("frame").classList.remove("asked");
  cells.rects.forEach((rect) => paint(rect, false, 0));
  cells.regions.forEach((row) => paint(row, false, 0));
  cells.words.forEach((element, word) => paint(element, false, Math.max(0, ...cells.rects.map((_, region) => weight(word, region))) * .6));
}

let last = null;               // the tile that the detail was opened from
function focusTile() {
  const link = last && $("results").querySelector(`[data-id="${CSS.escape(last)}"] a`);
  if (link) rove(link);
  last = null;
}

/* ---- keys, typing, start ---- */

function moveInGrid(event, link) {
  const links = [...$("results").querySelectorAll("a")];
  const at = links.indexOf(link);
  const across = getComputedStyle($("results")).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -at, End: links.length - 1 - at }[event.key];
  if (by === undefined) return;
  event.preventDefault();
  if (at + by < 0 && event.key === "ArrowUp") { $("words").focus(); return; }
  rove(links[Math.min(Math.max(at + by, 0), links.length - 1)]);
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
  $("home").addEventListener("click", (event) => { event.preventDefault(); $("words").value = ""; go({ q: "", labels: [], like: null, region: null, open: null }); $("words").focus(); });
  $("detail").addEventListener("close", () => { last = state().open ?? last; if (state().open) go({ open: null }); });
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
  $("close").addEventListener("click", () => $("detail").close());
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("key-form").addEventListener("submit", () => { key.set($("key-text").value.trim()); asked = ""; about().finally(show); });
  document.addEventListener("keydown", pressed);
  document.addEventListener("click", (event) => { if (!$("filter").contains(event.target)) $("filter").open = false; });
  addEventListener("popstate", show);
  addEventListener("hashchange", show);
  $("words").focus();
  about().finally(show);
}

async function about() {
  let told;
  try { told = await (await ask("/index")).json(); } catch { return; }
  for (const { label, name } of told.labels) names.set(String(label), name);
  $("filter").hidden = told.labels.length === 0;
  $("labels").replaceChildren($("labels").firstElementChild, ...told.labels.map(({ label, name }) => make("label", {},
    make("input", { type: "checkbox", value: String(label), on: { change: chooseLabels } }), name)));
  if (Number.isFinite(told.stats.products)) $("about").textContent = `${told.stats.products.toLocaleString()} products in the window`;
  const tries = told.suggestions.map((words) => make("button", { type: "button", text: words, on: { click: () => go({ q: words }) } }));
  $("hint").replaceChildren(...(tries.length ? ["Perhaps ", ...tries.flatMap((one, at) => (at ? [", ", one] : [one]))] : []));
}

function chooseLabels() {
  go({ labels: [...$("labels").querySelectorAll("input:checked")].map((box) => box.value) });
}

start();
