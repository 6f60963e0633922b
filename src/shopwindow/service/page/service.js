// How the page asks the service: with a key where one is needed, again where it is busy, and faults in words.

const TRIES = 3;
const TITLES = { 401: "A key is needed", 404: "Not in this shop", 413: "That photo is too large", 415: "This is not a photo that can be read", 422: "That cannot be searched", 503: "Many are searching right now" };

export const key = {
  get: () => sessionStorage.getItem("key"),
  set: (text) => sessionStorage.setItem("key", text),
};

export class Fault extends Error {
  constructor(title, detail, status = 0) { super(detail); this.title = title; this.status = status; }
}

const wait = (ms, signal) => new Promise((done, stop) => {
  const timer = setTimeout(done, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); stop(signal.reason); });
});

// `photo`: a file, sent as the body.
export async function ask(path, signal, photo) {
  for (let left = TRIES - 1; ; left--) {
    let answer;
    try {
      answer = await fetch(path, { signal, method: photo ? "POST" : "GET", body: photo, headers: key.get() ? { Authorization: `Bearer ${key.get()}` } : {} });
    } catch (error) {
      if (signal?.aborted) throw error;
      if (left > 0) { await wait(400, signal); continue; }
      throw new Fault("The search does not answer", "Perhaps it is being restarted, or the connection is gone.");
    }
    if (answer.ok) return answer;
    if (answer.status === 503 && left > 0) { await wait(1000 * Number(answer.headers.get("Retry-After") ?? 1), signal); continue; }
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) askForKey();
    const says = problem.wrong?.map((one) => one.says).join("; ") ?? problem.detail ?? `status ${answer.status}`;
    throw new Fault(TITLES[answer.status] ?? "That did not work", says, answer.status);
  }
}

function askForKey() {
  const dialog = document.getElementById("key");
  if (!dialog.open) dialog.showModal();
}
