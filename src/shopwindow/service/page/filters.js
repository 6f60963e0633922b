// What narrows a search: the shop's own columns, labels, and the ways in which it can be done. The index says what
// there is to offer; the address says what is chosen; what is chosen is shown above the results, to be taken away.

import { go, state } from "./address.js";
import { $, make, short, spaced } from "./elements.js";

const WAYS = {
  hybrid: [({ texts }) => texts, "Also match names"],
  late: [({ rerankers }) => rerankers.includes("late"), "Look closer"],
};
const CONDITION = /^\s*(\w+)\s*(<=|>=|<|>|=)\s*(.*?)\s*$/s;
const IN_WORDS = { "<=": "≤", ">=": "≥", "<": "under", ">": "over" };
const SHOWN = 8;               // values of a column before "Show all"
const WIDE = matchMedia("(min-width: 64rem)");
const names = new Map();       // of labels
const known = new Map();       // columns by their names in small letters

export function offer(about) {
  for (const { label, name } of about.labels) names.set(String(label), name);
  const kinds = about.labels.map(({ label, name, count }) => choice(short(name), count, { value: String(label), change: chooseLabels }));
  const ways = Object.entries(WAYS).filter(([, [isOffered]]) => isOffered(about.ways)).map(([way, [, text]]) =>
    choice(text, null, { value: way, change: (event) => go({ [way]: event.target.checked }) }));
  const columns = about.columns.filter(({ role, words, kind }) => role !== "title" && role !== "link" && role !== "currency" && (kind === "number" || words.length));
  for (const { name } of about.columns) known.set(name.toLowerCase(), name);
  $("columns").replaceChildren(...columns.map((column) => group(column)));
  $("columns").hidden = columns.length === 0;
  fill("labels", kinds);
  fill("ways", ways);
  $("filter").hidden = kinds.length + columns.length + ways.length === 0;
  fit();
}

export function fit() { if (WIDE.matches) $("filter").open = true; }   // on a wide screen the filters are a column
export const isColumn = () => WIDE.matches;
export function close() { if (!WIDE.matches) $("filter").open = false; }
WIDE.addEventListener("change", () => { $("filter").open = WIDE.matches; });

function fill(id, choices) {
  $(id).hidden = choices.length === 0;
  $(id).replaceChildren($(id).firstElementChild, ...shortened(choices));
}

const group = (column) => make("fieldset", {}, make("legend", { text: spaced(column.name) }),
  ...(column.kind === "number" ? [numberField(column)] : wordFields(column)));

function choice(text, count, { value, change, data = {} }) {
  const box = make("input", { type: "checkbox", value, data, on: { change } });
  return make("label", {}, box, make("span", { className: "name", text }), ...(count === null ? [] : [make("span", { className: "count", text: count.toLocaleString() })]));
}

function shortened(choices) {  // long lists show their first values; the others come by one press
  if (choices.length <= SHOWN + 2) return choices;
  const rest = make("div", { className: "rest", hidden: true }, ...choices.slice(SHOWN));
  const all = make("button", { type: "button", className: "text", text: `Show all ${choices.length}`, on: { click: () => { rest.hidden = false; all.remove(); rest.querySelector("input").focus(); } } });
  return [...choices.slice(0, SHOWN), rest, all];
}

function numberField({ name, minimum, maximum }) {
  const side = (relation, says, hint) => make("input", { type: "number", step: "any", inputMode: "decimal", placeholder: hint ?? "",
    ariaLabel: `${spaced(name)} ${says}`, data: { column: name, relation }, on: { change: chooseNumber, keydown: takeOnEnter } });
  return make("div", { className: "field", role: "group", ariaLabel: spaced(name) }, side(">=", "at least", minimum), make("span", { text: "to" }), side("<=", "at most", maximum));
}

function wordFields({ name, words, counts, count }) {   // where there are more words than are told, any can be typed
  const choices = words.map((word, at) => choice(word, counts[at] ?? null, { value: word, change: chooseWords, data: { column: name, relation: "=" } }));
  if (count <= words.length) return shortened(choices);
  const list = `words-of-${name}`;
  const typed = make("input", { type: "text", autocomplete: "off", placeholder: `any of ${count.toLocaleString()}`, ariaLabel: `${spaced(name)}, typed`, data: { typed: name }, on: { change: addWord, keydown: takeOnEnter } });
  typed.setAttribute("list", list);
  return [...shortened(choices), typed, make("datalist", { id: list }, ...words.map((word) => make("option", { value: word })))];
}

function takeOnEnter(event) {  // and do not search with what stands in the search box
  if (event.key === "Enter") { event.preventDefault(); event.target.dispatchEvent(new Event("change")); }
}

function chooseLabels() {
  go({ labels: [...$("labels").querySelectorAll("input:checked")].map((box) => box.value) });
}

const fields = () => [...$("columns").querySelectorAll("[data-column]")];
const partsOf = (condition) => CONDITION.exec(condition)?.slice(1) ?? ["", "", condition];
const holds = ({ dataset }, [column, relation]) => dataset.column === nameOf(column) && dataset.relation[0] === relation[0];   // < is a bound as <= is
const nameOf = (column) => known.get(column.toLowerCase()) ?? column;

// What somebody typed, parted into words and conditions: "lamp price<40" asks for lamps, and for a price under 40.
export function parted(typed) {
  const isCondition = (word) => { const [column, , value] = partsOf(word); return known.has(column.toLowerCase()) && value !== ""; };
  const words = typed.trim().split(/\s+/);
  return { q: words.filter((word) => !isCondition(word)).join(" "), where: words.filter(isCondition) };
}

function bound(field, where) { // of several bounds the tightest, as a plain number
  const values = where.map(partsOf).filter((parts) => holds(field, parts)).map((parts) => Number(parts[2] || NaN)).filter(Number.isFinite);
  return values.length ? String(field.dataset.relation === "<=" ? Math.min(...values) : Math.max(...values)) : "";
}

const wordsOf = (name, where) => where.map(partsOf).filter(([column, relation]) => nameOf(column) === name && relation === "=")
  .flatMap(([, , value]) => value.split("|").map((word) => word.trim()));

// The conditions, with new ones instead of those that bound the same column from the same side.
export function replaced(where, others) {
  const side = (condition) => { const [column, relation] = partsOf(condition); return `${nameOf(column)} ${relation[0]}`; };
  const sides = others.map(side);
  return [...where.filter((condition) => !sides.includes(side(condition))), ...others];
}

function chooseNumber({ target }) {
  const { where } = state();
  const value = target.value.trim();
  if (target.validity.badInput || value === bound(target, where)) return;
  const others = where.filter((condition) => !holds(target, partsOf(condition)));
  go({ where: value ? [...others, `${target.dataset.column}${target.dataset.relation}${value}`] : others });
}

function setWords(name, words) {
  const others = state().where.filter((condition) => { const [column, relation] = partsOf(condition); return nameOf(column) !== name || relation !== "="; });
  go({ where: words.length ? [...others, `${name}=${words.join("|")}`] : others });
}

function chooseWords({ target: { value, checked, dataset: { column } } }) {
  const before = wordsOf(column, state().where).filter((word) => word !== value);
  setWords(column, checked ? [...before, value] : before);
}

function addWord({ target }) {
  const word = target.value.trim();
  const before = wordsOf(target.dataset.typed, state().where);
  target.value = "";
  if (word && !before.includes(word)) setWords(target.dataset.typed, [...before, word]);
}

export function showFilters({ labels, where, hybrid, late, like, photo }) {
  const ways = like || photo ? {} : { hybrid, late };   // what is like a photo is found in one way
  $("ways").hidden = Boolean(like || photo) || !$("ways").querySelector("input");
  for (const box of $("labels").querySelectorAll("input")) box.checked = labels.includes(box.value);
  for (const box of $("ways").querySelectorAll("input")) box.checked = { hybrid, late }[box.value];
  for (const field of fields()) {
    if (field.type === "checkbox") { field.checked = wordsOf(field.dataset.column, where).includes(field.value); continue; }
    const value = bound(field, where);
    if (field.value !== value) field.value = value;
  }
  const count = labels.length + where.length;
  $("filter-says").textContent = count === 0 ? "Filter" : count > 1 ? `${count} filters` : labels.length ? short(names.get(labels[0]) ?? labels[0]) : inWords(where[0]);
  $("chips").replaceChildren(
    ...labels.map((label) => chip(short(names.get(label) ?? label), () => ({ labels: state().labels.filter((one) => one !== label) }))),
    ...where.map((condition) => chip(inWords(condition), () => ({ where: state().where.filter((one) => one !== condition) }))),
    ...Object.entries(ways).filter(([, on]) => on).map(([way]) => chip(WAYS[way][1], () => ({ [way]: false }))));
}

function inWords(condition) {
  const [column, relation, value] = partsOf(condition);
  if (!column) return value;
  const name = spaced(nameOf(column));
  return relation === "=" ? `${name}: ${value.replaceAll("|", " or ")}` : `${name} ${IN_WORDS[relation]} ${value}`;
}

const chip = (text, without) => make("li", {}, make("button", { type: "button", text: `${text} ✕`, ariaLabel: `Remove filter ${text}`,
  on: { click: () => go(without()) } }));
