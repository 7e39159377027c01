// @ts-check
// Signing in and out.
import { messageOf, request, root, typed } from "./actions.js";

/** Sign in, on the page or in the dialog over it. @param {HTMLElement} form */
export async function signIn(form) {
  const { user } = await request("POST", `${root}session`, { token: typed(form).token });
  const dialog = form.closest("dialog");
  if (!dialog) return location.reload();
  /** @type {HTMLFormElement} */ (form).reset();
  dialog.close(user);
}

/** @type {Promise<void> | null} */
let asking = null;

/** Ask for the token in a dialog over the page, whose forms stay as they are; whoever asks meanwhile waits for the same. A
 * page of somebody else's is loaded anew. Who does not want to sign in leaves by the dialog's link. */
export function signInAgain() {
  asking ??= inDialog().finally(() => (asking = null));
  return asking;
}

async function inDialog() {
  const dialog = document.querySelector("dialog[data-sign-in]");
  if (!(dialog instanceof HTMLDialogElement)) return location.reload();
  const { classList } = document.documentElement;
  classList.add("signed-out");
  dialog.returnValue = "";
  do {
    dialog.showModal();
    await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  } while (!dialog.returnValue); // Escape would throw away what is kept
  if (dialog.returnValue !== dialog.dataset.user) {
    location.reload();
    return new Promise(() => {});
  }
  classList.remove("signed-out");
}

export async function signOut() {
  await request("DELETE", `${root}session`);
  location.href = root;
}

/** A link that works once: its secret is in the fragment, which no server sees, and leaves the address at once. */
export async function claimFromAddress() {
  const found = /^#claim=([\w-]{20,200})$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", location.pathname);
  try {
    const { user, token } = await request("POST", `${root}claim`, { claim: found[1] });
    if (!token) return location.reload();
    for (const element of document.querySelectorAll("[data-door]")) element.remove();
    document.querySelector("[data-go-on]")?.removeAttribute("hidden");
    document.querySelector("h1")?.replaceChildren(`Welcome, ${user}`);
    showSecret(user, token);
  } catch (error) {
    document.querySelector("[data-problem]")?.replaceChildren(messageOf(error));
  }
}

/** A token, or a link, in the one place that it is ever shown. @param {string} name @param {string} secret */
export function showSecret(name, secret) {
  const place = document.querySelector("[data-secret]");
  if (!(place instanceof HTMLElement)) return;
  place.hidden = false;
  place.querySelector("[data-secret-kind]")?.replaceChildren(secret.includes("#claim=") ? "Link" : "Token");
  place.querySelector("[data-secret-name]")?.replaceChildren(name);
  place.querySelector("[data-secret-text]")?.replaceChildren(secret);
}
