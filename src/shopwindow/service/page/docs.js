// The reference of the HTTP API, drawn from the service's own description, openapi.json.

import { $, make } from "./elements.js";
import { ask, key } from "./service.js";

const ANY = { string: "text", integer: 1, number: 1, boolean: true };
let described = {};

const resolved = (schema) => (schema?.$ref ? schema.$ref.split("/").slice(1).reduce((at, name) => at[name], described) : schema ?? {});

function example(schema) {     // a value of the schema: its own example, else one made of its parts
  const { examples, anyOf, type, items, properties, additionalProperties, default: usual, ...rest } = resolved(schema);
  if (examples?.length) return examples[0];
  if (anyOf) return example({ ...anyOf[0], ...rest });
  if (type === "array") return items ? [example(items)] : [];
  if (properties) return Object.fromEntries(Object.entries(properties).map(([name, one]) => [name, example(one)]));
  if (type === "object") return additionalProperties?.type ? { name: example(additionalProperties) } : {};
  return usual ?? ANY[type] ?? null;
}

function typeOf(schema) {
  const { type, anyOf, items, minimum, maximum, default: usual } = resolved(schema);
  const kind = anyOf ? anyOf.map((one) => resolved(one).type).join(" or ") : type === "array" ? `list of ${resolved(items).type}` : type;
  const bounds = minimum === undefined && maximum === undefined ? "" : `, ${minimum ?? ""} to ${maximum ?? ""}`;
  return `${kind}${bounds}${usual === undefined || usual === null || usual.length === 0 ? "" : `; ${JSON.stringify(usual)} when left out`}`;
}

const json = (schema) => JSON.stringify(example(schema), null, 2);
const jsonIn = (content) => Object.entries(content ?? {}).find(([kind]) => kind.endsWith("json"))?.[1].schema;

function curl(path, method, { parameters = [], requestBody }) {
  const value = (one) => encodeURIComponent(one.schema?.examples?.[0] ?? one.examples?.[0] ?? example(one.schema));
  const asked = parameters.filter((one) => one.in === "query" && one.required).map((one) => `${one.name}=${value(one)}`).join("&");
  const place = path.replace(/\{(\w+)\}/g, (_, name) => value(parameters.find((one) => one.name === name)));
  const body = jsonIn(requestBody?.content);
  const sent = !requestBody ? "" : body ? ` -H 'Content-Type: application/json' -d '${JSON.stringify(required(body))}'` : " -H 'Content-Type: image/jpeg' --data-binary @photo.jpg";
  return `curl${method === "get" || requestBody ? "" : ` -X ${method.toUpperCase()}`} '${location.origin}${place}${asked && `?${asked}`}'${sent}`;
}

function required(schema) {
  const { properties = {}, required: names = [] } = resolved(schema);
  return Object.fromEntries(names.map((name) => [name, example(properties[name])]));
}

function table(head, rows) {
  const cells = (tag, texts) => make("tr", {}, ...texts.map((text, at) => make(tag === "td" && at === 0 ? "th" : tag, tag === "td" && at === 0 ? { scope: "row", text } : { text })));
  return make("div", { className: "wide", tabIndex: 0, role: "group", ariaLabel: head.join(", ") }, make("table", {}, make("thead", {}, cells("th", head)), make("tbody", {}, ...rows.map((row) => cells("td", row)))));
}

function endpoint(path, method, about) {
  const rows = (about.parameters ?? []).map((one) => [one.name, one.in, typeOf(one.schema), one.schema?.description ?? one.description ?? ""]);
  const body = jsonIn(about.requestBody?.content);
  const fields = Object.entries(resolved(body).properties ?? {}).map(([name, one]) => [name, "body", typeOf(one), resolved(one).description ?? ""]);
  const responses = Object.entries(about.responses).map(([status, one]) => [status, one.description ?? ""]);
  const good = jsonIn(about.responses["200"]?.content);
  return make("section", { id: idOf(path, method) }, make("h2", { text: `${method.toUpperCase()} ${path}` }), make("p", { text: about.description ?? "" }),
    make("h3", { text: "Example" }), make("pre", { tabIndex: 0, ariaLabel: `Request to ${path}`, text: curl(path, method, about) }),
    ...(rows.length + fields.length ? [make("h3", { text: "Parameters" }), table(["name", "in", "type", "meaning"], [...rows, ...fields])] : []),
    make("h3", { text: "Responses" }), table(["status", "meaning"], responses),
    ...(good ? [make("h3", { text: "Response 200" }), make("pre", { tabIndex: 0, ariaLabel: `Response of ${path}`, text: json(good) })] : []));
}

const idOf = (path, method) => `${method}${path.replace(/[^a-z]+/g, "-")}`.replace(/-$/, "");

async function draw() {
  try {
    described = await (await ask("/openapi.json")).json();
  } catch (error) { $("fault").textContent = `${error.title ?? ""} ${error.message}`; return; }
  $("fault").textContent = "";
  $("about").textContent = described.info.description;
  const every = Object.entries(described.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, about]) => [path, method, about]));
  $("contents").replaceChildren(...every.map(([path, method]) => make("li", {}, make("a", { href: `#${idOf(path, method)}`, text: `${method.toUpperCase()} ${path}` }))));
  $("endpoints").replaceChildren(...every.map((one) => endpoint(...one)));
}

$("key-form").addEventListener("submit", () => { key.set($("key-text").value.trim()); draw(); });
draw();
