// @ts-check
// The playground: a chat as any client sends it, its answer shown as text. Nothing is kept but on this page.
import { onAct } from "./actions.js";

const root = document.body.dataset.root ?? "./";
/** @type {AbortController | null} */
let running = null;

/** @param {string} name */
const part = (name) => /** @type {HTMLElement} */ (document.querySelector(`[data-play-${name}]`));

onAct("play", async (form) => {
  if (running) return;
  const body = asked(/** @type {HTMLFormElement} */ (form));
  const controller = (running = new AbortController());
  begin(body);
  try {
    await follow(await sent(body, controller.signal));
  } catch (error) {
    if (!controller.signal.aborted) {
      part("state").textContent = "Failed";
      throw error;
    }
    part("state").textContent = "Stopped";
  } finally {
    running = null;
    show(false);
  }
});

onAct("play-stop", () => running?.abort());

/** @param {HTMLFormElement} form */
function asked(form) {
  const typed = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.toString().trim()]));
  const options = {
    ...(typed.context && { num_ctx: Number(typed.context) }),
    ...(typed.temperature && { temperature: Number(typed.temperature) }),
  };
  const messages = [{ role: "user", content: typed.prompt }];
  if (typed.system) messages.unshift({ role: "system", content: typed.system });
  return { model: typed.model, messages, ...(Object.keys(options).length && { options }) };
}

/** @param {object} body */
function begin(body) {
  /** @type {HTMLElement} */ (document.querySelector("[data-play]")).hidden = false;
  for (const name of ["answer", "thinking"]) part(name).replaceChildren(document.createTextNode(""));
  for (const name of ["first", "speed", "tokens", "server", "reason"]) part(name).textContent = "–";
  part("thoughts").hidden = part("request").hidden = true;
  part("state").textContent = "Waiting for the first token";
  const base = /** @type {HTMLElement} */ (document.querySelector("[data-play-base]")).dataset.playBase;
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  part("curl").textContent = `curl ${base}/api/chat -H "Authorization: Bearer TOKEN" -d '${quoted}'`;
  show(true);
}

/** @param {boolean} busy */
function show(busy) {
  /** @type {HTMLButtonElement} */ (part("send")).disabled = busy;
  /** @type {HTMLButtonElement} */ (part("stop")).disabled = !busy;
}

/**
 * @param {object} body
 * @param {AbortSignal} signal
 */
async function sent(body, signal) {
  const headers = { "x-console": "1", "content-type": "application/json" };
  const began = performance.now();
  const answer = await fetch(`${root}play/api/chat`, { method: "POST", headers, body: JSON.stringify(body), signal });
  route(answer.headers);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `the router answered ${answer.status}`);
  return { answer, began };
}

/** @param {Headers} told */
function route(told) {
  part("server").textContent = told.get("x-router-server") ?? "–";
  const place = told.get("x-router-queue-position");
  part("reason").textContent = [told.get("x-router-reason") ?? "–", place && `waited from place ${place}`].filter(Boolean).join("; ");
  const id = told.get("x-router-request-id");
  const link = part("request");
  if (!id || !(link instanceof HTMLAnchorElement)) return;
  link.hidden = false;
  link.href = `${root}requests/${id}`;
  link.textContent = id;
}

/** @param {{answer: Response, began: number}} sent */
async function follow({ answer, began }) {
  let first = 0;
  let done = null;
  for await (const line of lines(answer)) {
    if (line.error) throw new Error(line.error);
    const { content = "", thinking = "" } = line.message ?? {};
    if (!first && (content || thinking)) {
      first = performance.now();
      part("first").textContent = seconds(first - began);
      part("state").textContent = "Answering";
    }
    write("answer", content);
    write("thinking", thinking);
    if (thinking) part("thoughts").hidden = false;
    if (line.done) done = line;
  }
  if (!done) throw new Error("the answer broke off");
  end(done, performance.now() - (first || began), performance.now() - began);
}

/**
 * @param {string} name
 * @param {string} text
 */
function write(name, text) {
  const written = part(name).firstChild;
  if (written instanceof Text) written.appendData(text);
}

/**
 * @param {Record<string, any>} told the last line, with what the server counted
 * @param {number} writing milliseconds since the first token
 * @param {number} total
 */
function end(told, writing, total) {
  const took = told.eval_duration ? told.eval_duration / 1e6 : writing;
  part("state").textContent = `Answered in ${seconds(total)}${told.done_reason === "length" ? ", cut at its limit" : ""}`;
  if (told.eval_count > 1 && took > 0) part("speed").textContent = `${((told.eval_count / took) * 1000).toFixed(1)} tokens/s`;
  part("tokens").textContent = `${told.prompt_eval_count ?? "–"} / ${told.eval_count ?? "–"}`;
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
