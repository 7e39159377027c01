// @ts-check
// The playground: sends a chat as any client does, to one model or to two at once, and shows the answers as text. Only
// this page keeps them.
import { onAct, pieces, root, send, told, typed } from "./actions.js";
import { asCurl, asPython } from "./play_lines.js";
import { fragment } from "./live.js";
import { pastedImages } from "./play_images.js";

const OURS = { "x-console": "1" };

const columns = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-play-column]")]);
/** @type {AbortController | null} */
let running = null;

/** @param {ParentNode} column @param {string} name */
const part = (column, name) => /** @type {HTMLElement} */ (column.querySelector(`[data-play-${name}]`));

onAct("play", async (form) => {
  if (running) return;
  const bodies = asked(form);
  const { signal } = (running = new AbortController());
  for (const [index, column] of columns.entries()) column.hidden = index >= bodies.length;
  /** @type {HTMLElement} */ (document.querySelector("[data-play]")).hidden = false;
  show(true);
  const ends = await Promise.allSettled(bodies.map((body, index) => play(/** @type {HTMLElement} */ (columns[index]), body, signal)));
  running = null;
  show(false);
  const failed = ends.flatMap((end, index) => (end.status === "rejected" ? [`${bodies[index]?.model}: ${end.reason.message}`] : []));
  if (failed.length) throw new Error(failed.join("; "));
});

onAct("play-stop", () => running?.abort());

/** @param {HTMLElement} column @param {Asked} body @param {AbortSignal} signal */
async function play(column, body, signal) {
  begin(column, body);
  try {
    await follow(column, await sent(column, body, signal));
  } catch (error) {
    part(column, "state").textContent = signal.aborted ? "Stopped" : "Failed";
    if (!signal.aborted) throw error;
  }
}

/** The server that an admin has chosen, "" for the router's own choice. */
const pinned = () => /** @type {HTMLSelectElement | null} */ (document.querySelector("form.play [name=pin]"))?.value ?? "";

/** @typedef {{model: string, messages: object[], options?: object}} Asked as the router is asked */

/** What the form asks of each of its models. @param {HTMLElement} form @returns {Asked[]} */
function asked(form) {
  const given = typed(form);
  const options = {
    ...others(given.options ?? ""),
    ...(given.context && { num_ctx: Number(given.context) }),
    ...(given.temperature && { temperature: Number(given.temperature) }),
  };
  const images = pastedImages();
  /** @type {object[]} */
  const messages = [{ role: "user", content: given.prompt, ...(images.length && { images }) }];
  if (given.system) messages.unshift({ role: "system", content: given.system });
  const rest = { messages, ...(Object.keys(options).length && { options }) };
  return [given.model, given.other].flatMap((model) => (model ? [{ model, ...rest }] : []));
}

/** Options as Ollama's API takes them. @param {string} text @returns {object} */
function others(text) {
  if (!text) return {};
  const told = 'other options are JSON, such as {"top_p": 0.9}';
  try {
    const found = JSON.parse(text);
    if (found && typeof found === "object" && !Array.isArray(found)) return found;
  } catch {
    throw new Error(told);
  }
  throw new Error(told);
}

/** @param {HTMLElement} column @param {Asked} body */
function begin(column, body) {
  part(column, "model").textContent = body.model;
  for (const name of ["answer", "thinking"]) part(column, name).replaceChildren(document.createTextNode(""));
  for (const name of ["first", "speed", "tokens", "server", "reason"]) part(column, name).textContent = "–";
  part(column, "parts").replaceChildren();
  part(column, "thoughts").hidden = part(column, "request").hidden = true;
  part(column, "state").textContent = "Waiting for the first token";
  const base = /** @type {HTMLElement} */ (document.querySelector("[data-play-base]")).dataset.playBase ?? "";
  part(column, "curl").textContent = asCurl(base, body, pinned());
  part(column, "python").textContent = asPython(base, body, pinned());
}

function show(/** @type {boolean} */ busy) {
  /** @type {HTMLButtonElement} */ (part(document, "send")).disabled = busy;
  /** @type {HTMLButtonElement} */ (part(document, "stop")).disabled = !busy;
}

/** @param {HTMLElement} column @param {Asked} body @param {AbortSignal} signal */
async function sent(column, body, signal) {
  const began = performance.now();
  const pin = pinned();
  const answer = await send("POST", `${root}play/api/chat`, body, signal, pin ? { "x-router-pin": pin } : undefined);
  route(column, answer.headers);
  if (!answer.ok) await told(answer);
  return { answer, began };
}

/** @param {HTMLElement} column @param {Headers} said */
function route(column, said) {
  part(column, "server").textContent = said.get("x-router-server") ?? "–";
  const place = said.get("x-router-queue-position");
  part(column, "reason").textContent = [said.get("x-router-reason") ?? "–", place && `entered the queue at position ${place}`].filter(Boolean).join("; ");
  const id = said.get("x-router-request-id");
  const link = part(column, "request");
  if (!id || !(link instanceof HTMLAnchorElement)) return;
  link.hidden = false;
  link.href = `${root}requests/${id}`;
  link.textContent = id;
  followRoute(column, id, () => part(column, "first").textContent === "–" && !/^(Failed|Stopped)/.test(part(column, "state").textContent ?? ""));
}

/** @param {HTMLElement} column @param {{answer: Response, began: number}} sent */
async function follow(column, { answer, began }) {
  let first = 0;
  let done = null;
  for await (const text of pieces(answer, "\n")) {
    if (!text.trim()) continue;
    const line = JSON.parse(text);
    if (line.error) throw new Error(line.error);
    const { content = "", thinking = "" } = line.message ?? {};
    if (!first && (content || thinking)) {
      first = performance.now();
      part(column, "first").textContent = seconds(first - began);
      part(column, "state").textContent = "Answering";
    }
    write(column, "answer", content);
    write(column, "thinking", thinking);
    if (thinking) part(column, "thoughts").hidden = false;
    if (line.done) done = line;
  }
  if (!done) throw new Error("the answer ended before it was complete");
  end(column, done, performance.now() - (first || began), performance.now() - began);
}

/** @param {HTMLElement} column @param {string} name @param {string} text */
function write(column, name, text) {
  const written = part(column, name).firstChild;
  if (written instanceof Text) written.appendData(text);
}

/** @param {HTMLElement} column @param {Record<string, any>} last @param {number} writing ms since the first token @param {number} total */
function end(column, last, writing, total) {
  const took = last.eval_duration ? last.eval_duration / 1e6 : writing;
  part(column, "state").textContent = `Answered in ${seconds(total)}${last.done_reason === "length" ? ", cut at the token limit" : ""}`;
  if (last.eval_count > 1 && took > 0) part(column, "speed").textContent = `${((last.eval_count / took) * 1000).toFixed(1)} tokens/s`;
  part(column, "tokens").textContent = `${last.prompt_eval_count ?? "–"} / ${last.eval_count ?? "–"}`;
}

const seconds = (/** @type {number} */ ms) => (ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** What the router says of a request while it waits, loads and writes, once a second; then where its time went. `shown`
 * tells whether the column is still about it and its answer has not begun. @param {HTMLElement} column @param {string} id @param {() => boolean} shown */
async function followRoute(column, id, shown) {
  const still = () => part(column, "request").textContent === id && !part(column, "request").hidden;
  for (let missed = 0; missed < 10 && still(); await new Promise((resolve) => setTimeout(resolve, 1_000))) {
    const answer = await fetch(`${root}act/requests/${id}`, { headers: OURS }).catch(() => null);
    const told = answer?.ok ? await answer.json() : null;
    if (!told) missed += 1;
    if (!told || !still()) continue;
    part(column, "server").textContent = told.server ?? "–";
    part(column, "reason").textContent = told.reason ?? "–";
    if (told.outcome !== "in_progress") return showParts(part(column, "parts"), id);
    if (shown()) part(column, "state").textContent = told.sentence;
  }
}

/** @param {HTMLElement} place @param {string} id */
async function showParts(place, id) {
  const answer = await fetch(`${root}requests/${id}`, { headers: OURS });
  if (answer.ok) place.replaceChildren(...fragment(await answer.text()).querySelectorAll("svg.timeline, .scroll:has(.verdicts)"));
}
