// @ts-check
// The stream of changes: names of live parts that are worth fetching anew, no data. Read by fetch, since EventSource
// cannot send the field that a page elsewhere cannot send either.

const MOST_OF_BROWSER = 3; // browsers open six connections to a host
const ANSWER_WITHIN = 150;
const LATER = 5_000;

/** Other tabs of this browser; it works on plain HTTP, where Web Locks do not. */
const tabs = new BroadcastChannel("orouter-console");
const own = Math.random().toString(36).slice(2);
let wanted = false;
let held = false;

tabs.addEventListener("message", ({ data }) => {
  if (data.asks && (held || (wanted && own < data.asks))) tabs.postMessage({ holds: own });
});

/** Whether this tab may have a stream: three of a browser may. */
async function mayHold() {
  const others = new Set();
  const count = (/** @type {MessageEvent} */ { data }) => data.holds && others.add(data.holds);
  wanted = true;
  tabs.addEventListener("message", count);
  tabs.postMessage({ asks: own });
  await new Promise((done) => setTimeout(done, ANSWER_WITHIN));
  tabs.removeEventListener("message", count);
  return others.size < MOST_OF_BROWSER;
}

/**
 * Read the stream until it ends, whatever ends it.
 * @param {string} url
 * @param {AbortSignal} signal
 * @param {(names: string[]) => void} hear called with what has changed, with nothing as a sign of life
 * @returns {Promise<number>} milliseconds to leave it be
 */
export async function readEvents(url, signal, hear) {
  try {
    if (!(await mayHold())) return LATER;
    held = true;
    const answer = await fetch(url, { headers: { "x-console": "1" }, cache: "no-store", signal });
    if (!answer.ok || !answer.body) return LATER;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = "", part = await reader.read(); !part.done; part = await reader.read()) {
      const events = (text + part.value).split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) hear(JSON.parse(/^data: (.*)$/m.exec(event)?.[1] ?? "[]"));
    }
  } catch {
    // the connection, or this page, is gone; the caller asks by itself and sees which
  } finally {
    held = wanted = false;
  }
  return 1_000;
}
