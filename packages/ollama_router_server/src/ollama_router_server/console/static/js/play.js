// @ts-check
// The playground: a chat as any client sends it, to one model or to two at once, its answers shown as text. Nothing is
// kept but on this page.
import { onAct, send } from "./actions.js";
import { asCurl, asPython } from "./play_lines.js";
import { pastedImages } from "./play_images.js";

const root = document.body.dataset.root ?? "./";
const columns = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-play-column]")]);
/** @type {AbortController | null} */
let running = null;

/**
 * @param {ParentNode} column
 * @param {string} name
 */
const part = (column, name) => /** @type {HTMLElement} */ (column.querySelector(`[data-play-${name}]`));

onAct("play", async (form) => {
  if (running) return;
  const bodies = asked(/** @type {HTMLFormElement} */ (form));
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

/**
 * @param {HTMLElement} column
 * @param {Asked} body
 * @param {AbortSignal} signal
 */
async function play(column, body, signal) {
  begin(column, body);
  try {
    await follow(column, await sent(column, body, signal));
  } catch (error) {
    part(column, "state").textContent = signal.aborted ? "Stopped" : "Failed";
    if (!signal.aborted) throw error;
  }
}

/** @typedef {{model: string, messages: object[], options?: object}} Asked as the router is asked */

/**
 * What the form asks of each of its models.
 * @param {HTMLFormElement} form
 * @returns {Asked[]}
 */
function asked(form) {
  const typed = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.toString().trim()]));
  const options = {
    ...others(typed.options ?? ""),
    ...(typed.context && { num_ctx: Number(typed.context) }),
    ...(typed.temperature && { temperature: Number(typed.temperature) }),
  };
  const images = pastedImages();
  /** @type {object[]} */
  const messages = [{ role: "user", content: typed.prompt, ...(images.length && { images }) }];
  if (typed.system) messages.unshift({ role: "system", content: typed.system });
  const rest = { messages, ...(Object.keys(options).length && { options }) };
  return [typed.model, typed.other].flatMap((model) => (model ? [{ model, ...rest }] : []));
}

/**
 * Options as Ollama's API takes them.
 * @param {string} text
 * @returns {object}
 */
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

/**
 * @param {HTMLElement} column
 * @param {Asked} body
 */
function begin(column, body) {
  part(column, "model").textContent = body.model;
  for (const name of ["answer", "thinking"]) part(column, name).replaceChildren(document.createTextNode(""));
  for (const name of ["first", "speed", "tokens", "server", "reason"]) part(column, name).textContent = "–";
  part(column, "thoughts").hidden = part(column, "request").hidden = true;
  part(column, "state").textContent = "Waiting for the first token";
  const base = /** @type {HTMLElement} */ (document.querySelector("[data-play-base]")).dataset.playBase ?? "";
  part(column, "curl").textContent = asCurl(base, body);
  part(column, "python").textContent = asPython(base, body);
}

/** @param {boolean} busy */
function show(busy) {
  /** @type {HTMLButtonElement} */ (part(document, "send")).disabled = busy;
  /** @type {HTMLButtonElement} */ (part(document, "stop")).disabled = !busy;
}

/**
 * @param {HTMLElement} column
 * @param {Asked} body
 * @param {AbortSignal} signal
 */
async function sent(column, body, signal) {
  const began = performance.now();
  const answer = await send("POST", `${root}play/api/chat`, body, signal);
  route(column, answer.headers);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `the router answered ${answer.status}`);
  return { answer, began };
}

/**
 * @param {HTMLElement} column
 * @param {Headers} told
 */
function route(column, told) {
  part(column, "server").textContent = told.get("x-router-server") ?? "–";
  const place = told.get("x-router-queue-position");
  part(column, "reason").textContent = [told.get("x-router-reason") ?? "–", place && `waited from place ${place}`].filter(Boolean).join("; ");
  const id = told.get("x-router-request-id");
  const link = part(column, "request");
  if (!id || !(link instanceof HTMLAnchorElement)) return;
  link.hidden = false;
  link.href = `${root}requests/${id}`;
  link.textContent = id;
}

/**
 * @param {HTMLElement} column
 * @param {{answer: Response, began: number}} sent
 */
async function follow(column, { answer, began }) {
  let first = 0;
  let done = null;
  for await (const line of lines(answer)) {
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
  if (!done) throw new Error("the answer broke off");
  end(column, done, performance.now() - (first || began), performance.now() - began);
}

/**
 * @param {HTMLElement} column
 * @param {string} name
 * @param {string} text
 */
function write(column, name, text) {
  const written = part(column, name).firstChild;
  if (written instanceof Text) written.appendData(text);
}

/**
 * @param {HTMLElement} column
 * @param {Record<string, any>} told the last line, with what the server counted
 * @param {number} writing milliseconds since the first token
 * @param {number} total
 */
function end(column, told, writing, total) {
  const took = told.eval_duration ? told.eval_duration / 1e6 : writing;
  part(column, "state").textContent = `Answered in ${seconds(total)}${told.done_reason === "length" ? ", cut at its limit" : ""}`;
  if (told.eval_count > 1 && took > 0) part(column, "speed").textContent = `${((told.eval_count / took) * 1000).toFixed(1)} tokens/s`;
  part(column, "tokens").textContent = `${told.prompt_eval_count ?? "–"} / ${told.eval_count ?? "–"}`;
}

/** @param {Response} answer */
async function* lines(answer) {
  if (!answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { value, done } = await reader.read();
    const parts = (kept + (value ?? "")).split("\n");
    kept = done ? "" : (parts.pop() ?? "");
    for (const line of parts) if (line.trim()) yield JSON.parse(line);
    if (done) return;
  }
}

/** @param {number} ms */
const seconds = (ms) => (ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);
