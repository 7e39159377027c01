// @ts-check
// The stream of changes: names of live parts to fetch again, no data. Read with fetch: EventSource cannot send the header
// that protects against other sites.
import { pieces } from "./actions.js";

const MOST_OF_BROWSER = 3; // browsers open six connections to a host
const ANSWER_WITHIN = 150;
const EVERY = 1_000;
const FORGET = 3_500;
const LATER = 5_000;

/** Other tabs of this browser; it works on plain HTTP, where Web Locks do not. */
const tabs = new BroadcastChannel("orouter-console");
const own = Math.random().toString(36).slice(2);
/** Tabs that have a stream, and when they last said so. @type {Map<string, number>} */
const others = new Map();
let asked = Infinity;
/** @type {AbortController | undefined} */
let open;

tabs.addEventListener("message", ({ data }) => {
  if (data.holds) others.set(data.holds, performance.now());
  if (data.left) others.delete(data.left);
  const first = own < data.asks || performance.now() - asked > ANSWER_WITHIN / 2; // of two that ask at once, one
  if (data.asks && (open || (asked < Infinity && first))) tabs.postMessage({ holds: own });
});

/** @returns {string[]} the other tabs that have a stream now */
function holders() {
  for (const [id, at] of others) if (performance.now() - at > FORGET) others.delete(id);
  return [...others.keys()];
}

setInterval(() => {
  if (!open) return;
  tabs.postMessage({ holds: own });
  if (holders().filter((id) => id < own).length >= MOST_OF_BROWSER) leaveEvents(); // answers came too late
}, EVERY);

async function mayOpen() {
  asked = performance.now();
  tabs.postMessage({ asks: own });
  await new Promise((done) => setTimeout(done, ANSWER_WITHIN));
  return holders().length < MOST_OF_BROWSER;
}

/** End the stream, if there is one. */
export function leaveEvents() {
  open?.abort();
}

/** Read the stream until it ends; `hear` is called with what has changed, or nothing as a sign of life. Returns milliseconds
 * to leave it be. @param {string} url @param {(names: string[]) => void} hear @returns {Promise<number>} */
export async function readEvents(url, hear) {
  try {
    if (!(await mayOpen())) return LATER;
    open = new AbortController();
    const answer = await fetch(url, { headers: { "x-console": "1" }, cache: "no-store", signal: open.signal });
    if (!answer.ok || !answer.body) return LATER;
    for await (const event of pieces(answer, "\n\n")) hear(JSON.parse(/^data: (.*)$/m.exec(event)?.[1] ?? "[]"));
    return EVERY;
  } catch {
    return open?.signal.aborted ? LATER : EVERY; // the caller asks by itself and sees whether the router is there
  } finally {
    if (open) tabs.postMessage({ left: own });
    open = undefined;
    asked = Infinity;
  }
}
