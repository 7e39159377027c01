// @ts-check
// What is costly or final is asked about first; what cannot be undone wants its name typed.

/**
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
