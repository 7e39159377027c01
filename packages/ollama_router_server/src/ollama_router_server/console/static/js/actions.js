// @ts-check
// What buttons and forms do: `data-act` names it, what is final is asked about first, and a failure is told where it
// happened.

/** @type {Map<string, (element: HTMLElement) => unknown>} */
const acts = new Map();

/**
 * @param {string} name
 * @param {(element: HTMLElement) => unknown} act
 */
export function onAct(name, act) {
  acts.set(name, act);
}

/** Asks to sign in again, and comes back once somebody has. @type {() => Promise<unknown>} */
let signedOut = () => Promise.reject(new Error("sign in again"));

/** @param {() => Promise<unknown>} ask */
export function onSignedOut(ask) {
  signedOut = ask;
}

/**
 * Whether a field was changed since the page was loaded.
 * @param {Element} field
 */
export function isChanged(field) {
  if (field instanceof HTMLSelectElement)
    return field.selectedIndex !== Math.max(0, [...field.options].findIndex((one) => one.defaultSelected));
  if (field instanceof HTMLTextAreaElement) return field.value !== field.defaultValue;
  if (!(field instanceof HTMLInputElement)) return false;
  return field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
}

/** @param {HTMLElement} element */
async function run(element) {
  const act = acts.get(element.dataset.act ?? "");
  if (!act) return;
  const place = element.querySelector("[data-problem]") ?? document.querySelector("main [data-problem]");
  place?.replaceChildren();
  try {
    await act(element);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    if (place) place.replaceChildren(text);
    else toast(text);
  }
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

/**
 * Send to the router; the field X-Console is what a page elsewhere cannot send. Where the session has ended, once more
 * after signing in again.
 * @param {string} method
 * @param {string} url
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
export async function send(method, url, body, signal) {
  const headers = { "x-console": "1", "content-type": "application/json" };
  const asked = { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal };
  const answer = await fetch(url, asked);
  if (answer.headers.get("x-router-error") !== "missing_credential") return answer;
  await signedOut();
  return fetch(url, asked);
}

/**
 * Ask the router for JSON.
 * @param {string} method
 * @param {string} url
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function request(method, url, body) {
  const answer = await send(method, url, body);
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(document.error ?? `the router answered ${answer.status}`);
  return document;
}

/**
 * @param {string} text
 * @param {() => unknown} [undo]
 */
export function toast(text, undo) {
  const place = document.querySelector("[data-toasts]");
  if (!place) return;
  const made = document.createElement("div");
  made.className = "toast";
  made.append(text);
  if (undo) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Undo";
    button.addEventListener("click", async () => {
      made.remove();
      await undo();
    });
    made.append(button);
  }
  place.append(made);
  setTimeout(() => made.remove(), 10_000);
}

/**
 * Ask before something costly or final; what cannot be undone wants its name typed.
 * @param {string} text
 * @param {string} verb
 * @param {string} [name] to be typed
 * @returns {Promise<boolean>}
 */
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
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/**
 * Copy a text; on plain HTTP, too, where browsers withhold navigator.clipboard.
 * @param {HTMLElement} button
 */
export async function copyFrom(button) {
  const source = document.getElementById(button.dataset.from ?? "");
  if (!source) return;
  const text = source.textContent ?? "";
  const copied = navigator.clipboard ? await navigator.clipboard.writeText(text).then(() => true, () => false) : false;
  if (!copied) select(source);
  const done = copied || document.execCommand("copy");
  const name = (button.dataset.label ??= button.textContent ?? "");
  button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
  setTimeout(() => (button.textContent = name), 2000);
}

/** @param {HTMLElement} source */
function select(source) {
  const range = document.createRange();
  range.selectNodeContents(source);
  const selection = getSelection();
  selection?.removeAllRanges();
  selection?.addRange(range);
}
