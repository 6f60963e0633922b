// What the page shows lives in the address after #, which no server ever sees; so back, forward and bookmarks work.
// Whoever changes it calls `go`; the event "go" says that it was changed.

const ONE = ["q", "like", "region", "photo", "share", "open"];
const MANY = { label: "labels", where: "where" };
const SWITCHES = ["hybrid", "late"];

export const NOTHING = { q: "", labels: [], where: [], hybrid: false, late: false, like: null, region: null, photo: null, share: null, open: null };
export const photos = new Map();   // what a number of the address stands for, as long as the page lives

export function state() {
  const at = new URLSearchParams(location.hash.slice(1));
  return {
    q: at.get("q") ?? "", like: at.get("like"), region: at.get("region"), open: at.get("open"),
    photo: photos.has(at.get("photo")) ? at.get("photo") : null, share: at.get("share"),
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

// The path of the service that answers a state with `k` products; "" where nothing is asked. A photo is the body.
export function question({ q, labels, where, hybrid, late, like, region, photo, share }, k) {
  const at = new URLSearchParams({ k });
  for (const label of labels) at.append("label", label);
  for (const condition of where) at.append("where", condition);
  if (like) {
    if (region) at.set("region", region);
    return `/products/${encodeURIComponent(like)}/similar?${at}`;
  }
  if (q.trim()) at.set("q", q.trim());
  if (photo) {
    if (share && q.trim()) at.set("share", share);
    return `/search/photo?${at}`;
  }
  if (!q.trim()) return "";
  if (hybrid) at.set("hybrid", "true");
  if (late) at.set("rerank", "late");
  return `/search?${at}`;
}
