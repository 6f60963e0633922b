// What goes on what somebody types: a list below the words, to choose from by key or pointer (ARIA's combobox).

import { go } from "./address.js";
import { $, make } from "./elements.js";
import { ask } from "./service.js";

const MOST = 6;
const SHORTEST = 2;            // letters before anything is suggested
let flight = null;
let chosen = -1;               // the row that an arrow key went to

const rows = () => [...$("typing").children];
export const areOpen = () => !$("typing").hidden;

export async function suggest(typed) {
  flight?.abort();
  if (typed.trim().length < SHORTEST) { close(); return; }
  const mine = flight = new AbortController();
  try {
    const { suggestions } = await (await ask(`/suggest?${new URLSearchParams({ q: typed.trim(), k: MOST })}`, mine.signal)).json();
    if (flight === mine && document.activeElement === $("words")) draw(suggestions);
  } catch { if (flight === mine) close(); }   // the search itself says what is wrong
}

function draw(texts) {
  chosen = -1;
  $("words").removeAttribute("aria-activedescendant");
  $("typing").replaceChildren(...texts.map((text, at) => make("li", { id: `typing-${at}`, role: "option", ariaSelected: "false", text,
    on: { pointerdown: (event) => { event.preventDefault(); take(text); } } })));
  $("typing").hidden = texts.length === 0;
  $("words").setAttribute("aria-expanded", String(texts.length > 0));
}

export function close() { flight?.abort(); flight = null; draw([]); }

// Whether the key was for the list.
export function pressed(key) {
  if (!areOpen()) return false;
  if (key === "Escape") { close(); return true; }
  if (key === "Enter" && chosen >= 0) { take(rows()[chosen].textContent); return true; }
  const by = { ArrowDown: 1, ArrowUp: -1 }[key];
  if (by === undefined) return false;
  chosen = Math.min(Math.max(chosen + by, -1), rows().length - 1);
  rows().forEach((row, at) => { row.ariaSelected = String(at === chosen); });
  if (chosen >= 0) $("words").setAttribute("aria-activedescendant", rows()[chosen].id);
  else $("words").removeAttribute("aria-activedescendant");
  return true;
}

function take(text) {
  close();
  $("words").value = text;
  go({ q: text, like: null, region: null, open: null });
}
