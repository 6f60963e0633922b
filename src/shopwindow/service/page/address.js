// What the page shows lives in the address after #, which no server ever sees; so back, forward and bookmarks work.
// Whoever changes it calls `go`; the event "go" says that it was changed.

const HITS = 48;
const ONE = ["q", "like", "region", "open"];
const MANY = { label: "labels", where: "where" };
const SWITCHES = ["hybrid", "late"];

export const NOTHING = { q: "", labels: [], where: [], hybrid: false, late: false, like: null, region: null, open: null };

export function state() {
  const at = new URLSearchParams(location.hash.slice(1));
  return {
    q: at.get("q") ?? "", like: at.get("like"), region: at.get("region"), open: at.get("open"),
    labels: at.getAll("label"), where: at.getAll("where"), hybrid: at.has("hybrid"), late: at.has("late"),
  };
}

export function go(change, { replace = false } = {}) {
  const next = { ...state(), ...change };
  const at = new URLSearchParams();
  for (const name of ONE) if (next[name] !== null && next[name] !== "") at.set(name, next[name]);
  for (const [name, list] of Object.entries(MANY)) for (const value of next[list]) at.append(name, value);
  for (const name of SWITCHES) if (next[name]) at.set(name, "true");
  history[replace ? "replaceState" : "pushState"](null, "", at.size ? `#${at}` : location.pathname);
  dispatchEvent(new Event("go"));
}

// The path of the service that answers a state; "" where nothing is asked.
export function question({ q, labels, where, hybrid, late, like, region }) {
  const at = new URLSearchParams({ k: HITS });
  for (const label of labels) at.append("label", label);
  for (const condition of where) at.append("where", condition);
  if (like) {
    if (region) at.set("region", region);
    return `/products/${encodeURIComponent(like)}/similar?${at}`;
  }
  if (!q.trim()) return "";
  at.set("q", q.trim());
  if (hybrid) at.set("hybrid", "true");
  if (late) at.set("rerank", "late");
  return `/search?${at}`;
}
