// @ts-check
// Actions of buttons and forms: `data-act` names the action, irreversible ones ask for confirmation, and an error appears
// beside its element.

/** @type {Map<string, (element: HTMLElement) => unknown>} */
const acts = new Map();
const busy = new Set(); // elements whose action is in progress: further presses are ignored

/** Where the console is, relative to the page. */
export const root = document.body.dataset.root ?? "./";

/** @type {(name: string, act: (element: HTMLElement) => unknown) => unknown} */
export const onAct = (name, act) => acts.set(name, act);

/** What was typed into a form. @type {(form: HTMLElement) => Record<string, string>} */
export const typed = (form) =>
  Object.fromEntries([...new FormData(/** @type {HTMLFormElement} */ (form))].map(([name, value]) => [name, value.toString().trim()]));

/** Asks to sign in again, and comes back once somebody has. @type {() => Promise<unknown>} */
let signedOut = () => Promise.reject(new Error("sign in again"));

/** @param {() => Promise<unknown>} ask */
export const onSignedOut = (ask) => (signedOut = ask);

/** Whether a field was changed since the page was loaded. @param {Element} field */
export function isChanged(field) {
  if (field instanceof HTMLSelectElement)
    return field.selectedIndex !== Math.max(0, [...field.options].findIndex((one) => one.defaultSelected));
  if (field instanceof HTMLTextAreaElement) return field.value !== field.defaultValue;
  if (!(field instanceof HTMLInputElement)) return false;
  return field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
}

export const messageOf = (/** @type {unknown} */ error) => (error instanceof Error ? error.message : String(error));
export const codeOf = (/** @type {any} */ error) => (typeof error?.code === "string" ? error.code : ""); // a DOMException has a number

/** What failed, with a link to what its code means. @param {any} error @returns {(string | Node)[]} */
export function explained(error) {
  const { errors } = document.body.dataset, code = codeOf(error);
  if (!code || !errors) return [messageOf(error)];
  return [`${messageOf(error)} `, Object.assign(document.createElement("a"), { href: `${errors}#${code}`, textContent: code })];
}

/** @param {HTMLElement} element */
async function run(element) {
  const act = acts.get(element.dataset.act ?? "");
  if (!act || busy.has(element)) return;
  busy.add(element);
  const place = element.querySelector("[data-problem]") ?? document.querySelector("main [data-problem]");
  place?.replaceChildren();
  try {
    await act(element);
  } catch (error) {
    if (place) place.replaceChildren(...explained(error));
    else toast(explained(error));
  }
  busy.delete(element);
}

document.addEventListener("click", (event) => {
  const element = /** @type {Element} */ (event.target).closest("button[data-act]");
  if (element instanceof HTMLElement) run(element);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.dataset.act) return;
  event.preventDefault();
  run(form);
});

/** Send to the router; other sites cannot send X-Console. If the session has ended, sign in and send again.
 * @type {(method: string, url: string, body?: unknown, signal?: AbortSignal, fields?: Record<string, string>) => Promise<Response>} */
export const send = async (method, url, body, signal, fields) => {
  const headers = { "x-console": "1", "content-type": "application/json", ...fields };
  const asked = { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal };
  const answer = await fetch(url, asked);
  if (answer.headers.get("x-router-error") !== "missing_credential") return answer;
  await signedOut();
  return fetch(url, asked);
};

/** What the router answered as JSON; an error where it refused. @param {Response} answer @returns {Promise<any>} */
export async function told(answer) {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(body.error ?? `the router answered ${answer.status}`), { code: body.code });
  return body;
}

/** Ask the router for JSON; what is sent again has the same key, and is done once. @type {(method: string, url: string, body?: unknown) => Promise<any>} */
export const request = async (method, url, body) =>
  told(await send(method, url, body, undefined, { "idempotency-key": crypto.getRandomValues(new Uint32Array(4)).join("-") }));

/** The text of an answer as it comes, cut at a mark. @param {Response} answer @param {string} mark */
export async function* pieces(answer, mark) {
  if (!answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const found = (kept + part.value).split(mark);
    kept = found.pop() ?? "";
    yield* found;
  }
  if (kept) yield kept;
}

/** @param {string} text @param {() => unknown} does */
export function buttonOf(text, does) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", does);
  return made;
}

/** @param {string | (string | Node)[]} text @param {() => unknown} [undo] */
export function toast(text, undo) {
  const made = Object.assign(document.createElement("div"), { className: "toast" });
  made.append(...[text].flat());
  if (undo) made.append(buttonOf("Undo", () => (made.remove(), Promise.resolve().then(undo).catch((error) => toast(explained(error))))));
  document.querySelector("[data-toasts]")?.append(made);
  setTimeout(() => made.remove(), 10_000);
}

/** Ask before something costly or irreversible; if it cannot be undone, its name must be typed.
 * @param {string} text @param {string} verb @param {string} [name] to be typed @returns {Promise<boolean>} */
export function confirmed(text, verb, name) {
  const dialog = document.querySelector("dialog[data-dialog]");
  if (!(dialog instanceof HTMLDialogElement)) return Promise.resolve(false);
  const yes = /** @type {HTMLButtonElement} */ (dialog.querySelector("[data-dialog-yes]"));
  const typed = /** @type {HTMLElement} */ (dialog.querySelector("[data-dialog-typed]"));
  const input = /** @type {HTMLInputElement} */ (typed.querySelector("input"));
  dialog.querySelector("[data-dialog-text]")?.replaceChildren(text);
  typed.querySelector("[data-dialog-name]")?.replaceChildren(name ?? "");
  yes.textContent = verb;
  typed.hidden = name === undefined;
  input.value = "";
  yes.disabled = name !== undefined;
  input.oninput = () => (yes.disabled = name !== undefined && input.value !== name);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

/** Copy a text; on plain HTTP, too, where browsers withhold navigator.clipboard. @param {HTMLElement} button */
export async function copyFrom(button) {
  const source = document.getElementById(button.dataset.from ?? "");
  if (!source) return;
  const text = source.textContent ?? "";
  const copied = navigator.clipboard ? await navigator.clipboard.writeText(text).then(() => true, () => false) : false;
  if (!copied) getSelection()?.selectAllChildren(source);
  const done = copied || document.execCommand("copy");
  const name = (button.dataset.label ??= button.textContent ?? "");
  button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
  setTimeout(() => (button.textContent = name), 2000);
}
