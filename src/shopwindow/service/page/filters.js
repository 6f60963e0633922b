// What narrows a search: labels, the shop's own columns, and the ways in which it can be done. The index says what
// there is to offer; the address says what is chosen; what is chosen is shown above the results, to be taken away.

import { go, state } from "./address.js";
import { $, make, short, spaced } from "./elements.js";

const WAYS = {
  hybrid: [({ texts }) => texts, "Also by full text"],
  late: [({ rerankers }) => rerankers.includes("late"), "Look closer"],
};
const CONDITION = /^\s*(\w+)\s*(<=|>=|=)\s*(.*?)\s*$/s;
const names = new Map();       // of labels
let columns = [];

export function offer(told) {
  for (const { label, name } of told.labels) names.set(String(label), name);
  columns = told.columns;
  const kinds = told.labels.map(({ label, name }) => make("label", {},
    make("input", { type: "checkbox", value: String(label), on: { change: chooseLabels } }), name));
  const ways = Object.entries(WAYS).filter(([, [isOffered]]) => isOffered(told.ways)).map(([way, [, text]]) => make("label", {},
    make("input", { type: "checkbox", value: way, on: { change: (event) => go({ [way]: event.target.checked }) } }), text));
  fill("labels", kinds);
  fill("columns", columns.map((column) => (column.kind === "number" ? numberField(column) : wordField(column))));
  fill("ways", ways);
  $("filter").hidden = kinds.length + columns.length + ways.length === 0;
}

function fill(id, fields) {
  $(id).hidden = fields.length === 0;
  $(id).replaceChildren($(id).firstElementChild, ...fields);
}

function numberField({ name, minimum, maximum }) {
  const side = (relation, says, hint) => make("input", { type: "number", step: "any", inputMode: "decimal", placeholder: hint ?? "",
    ariaLabel: `${spaced(name)} ${says}`, data: { column: name, relation }, on: { change: chooseValue, keydown: takeOnEnter } });
  return make("div", { className: "field", role: "group", ariaLabel: spaced(name) }, make("span", { text: spaced(name) }),
    side(">=", "at least", minimum), make("span", { text: "to" }), side("<=", "at most", maximum));
}

function wordField({ name, words, count }) {   // where there are more words than are told, any can be typed
  const data = { column: name, relation: "=" };
  const choices = ["", ...words].map((word) => make("option", { value: word, text: word || "any" }));
  const field = make("label", { className: "field" }, make("span", { text: spaced(name) }));
  if (count <= words.length) { field.append(make("select", { data, on: { change: chooseValue } }, ...choices)); return field; }
  const list = `words-of-${name}`;
  const typed = make("input", { type: "text", autocomplete: "off", placeholder: `any of ${count.toLocaleString()}`, data, on: { change: chooseValue, keydown: takeOnEnter } });
  typed.setAttribute("list", list);
  field.append(typed, make("datalist", { id: list }, ...choices.slice(1)));
  return field;
}

function takeOnEnter(event) {  // and do not search with what stands in the search box
  if (event.key === "Enter") { event.preventDefault(); chooseValue(event); }
}

function chooseLabels() {
  go({ labels: [...$("labels").querySelectorAll("input:checked")].map((box) => box.value) });
}

const fields = () => [...$("columns").querySelectorAll("[data-column]")];
const partsOf = (condition) => CONDITION.exec(condition)?.slice(1) ?? ["", "", condition];
const holds = ({ dataset }, [column, relation]) => dataset.column === column && dataset.relation === relation;

function shown(field, where) { // what a field shows: of several bounds the tightest, of numbers the plain one
  const values = where.map(partsOf).filter((parts) => holds(field, parts)).map((parts) => parts[2]);
  if (field.type !== "number") return values[0] ?? "";
  const numbers = values.filter(Boolean).map(Number).filter(Number.isFinite);
  return numbers.length ? String(field.dataset.relation === "<=" ? Math.min(...numbers) : Math.max(...numbers)) : "";
}

function chooseValue({ target }) {
  const { where } = state();
  const value = target.value.trim();
  if (target.validity.badInput || value === shown(target, where)) return;
  const others = where.filter((condition) => !holds(target, partsOf(condition)));
  go({ where: value ? [...others, `${target.dataset.column}${target.dataset.relation}${value}`] : others });
}

export function showFilters({ labels, where, hybrid, late, like, photo }) {
  const ways = like || photo ? {} : { hybrid, late };   // what is like a photo is found in one way
  $("ways").hidden = Boolean(like || photo) || !$("ways").querySelector("input");
  for (const box of $("labels").querySelectorAll("input")) box.checked = labels.includes(box.value);
  for (const box of $("ways").querySelectorAll("input")) box.checked = { hybrid, late }[box.value];
  for (const field of fields()) {
    const value = shown(field, where);
    if (field.tagName === "SELECT" && ![...field.options].some((one) => one.value === value)) field.append(make("option", { value, text: value.replaceAll("|", " or ") }));
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
  return relation === "=" ? `${spaced(column)}: ${value.replaceAll("|", " or ")}` : `${spaced(column)} ${relation === "<=" ? "≤" : "≥"} ${value}`;
}

const chip = (text, without) => make("li", {}, make("button", { type: "button", text: `${text} ✕`, ariaLabel: `Remove filter ${text}`,
  on: { click: () => go(without()) } }));
