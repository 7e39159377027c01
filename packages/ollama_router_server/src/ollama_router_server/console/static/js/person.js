// @ts-check
// One person or group: shows the effect of a change before it is saved, and ends sessions.
import { isChanged, onAct, request, root, toast } from "./actions.js";

const asked = document.querySelector("form[data-act=preview-rights]");
const was = asked instanceof HTMLFormElement ? new FormData(asked) : undefined;
const save = /** @type {HTMLButtonElement | null} */ (document.querySelector("[data-act=save-rights]"));

/** The form's value for a grant: an empty field removes the grant, an empty list forbids all. @param {FormData} given @param {string} name */
function grantOf(given, name) {
  if (name === "models" && given.has("no_models")) return [];
  const typed = (given.get(name) ?? "").toString().trim();
  if (!typed) return null;
  return name === "models" ? typed.split(/\s*,\s*/) : Number(typed);
}

/** The changed fields of the form, as a `PATCH` body: others may have changed the rest in the meantime. @param {HTMLFormElement} form */
function changed(form, given = new FormData(form)) {
  const fields = /** @type {HTMLInputElement[]} */ ([...form.elements].filter(isChanged));
  const names = new Set(fields.map(({ name }) => (name === "no_models" ? "models" : name)));
  /** @type {Record<string, unknown>} */
  const change = {};
  if (names.delete("role")) change.role = given.get("role");
  if (names.delete("group")) change.group = given.get("group") || null;
  if (names.size) change.grants = Object.fromEntries([...names].map((name) => [name, grantOf(given, name)]));
  return change;
}

onAct("preview-rights", async (element) => {
  const form = /** @type {HTMLFormElement} */ (element);
  const change = changed(form);
  const view = await request("POST", `${root}act/${form.dataset.path}/rights`, change);
  document.querySelector("[data-preview]")?.replaceChildren(`If saved: ${view.sentence}`);
  for (const { name, text, origin } of view.rights) {
    const row = document.querySelector(`[data-right=${name}]`);
    const [, holds, from] = row?.children ?? [];
    const now = holds?.querySelector("bdi");
    if (!row || !now || !from) continue;
    from.querySelector("b")?.remove();
    const differs = now.textContent !== text || from.textContent?.trim() !== origin;
    row.classList.toggle("differs", differs);
    if (differs) from.append(Object.assign(document.createElement("b"), { textContent: ` → ${text}, ${origin}` }));
  }
  if (save) save.disabled = Object.keys(change).length === 0;
});

asked?.addEventListener("input", (event) => {
  if (save) save.disabled = true;
  const none = /** @type {HTMLInputElement} */ (event.target);
  const patterns = document.querySelector("input[name=models]");
  if (none.name === "no_models" && patterns instanceof HTMLInputElement) patterns.disabled = none.checked;
});

onAct("save-rights", async (button) => {
  const form = /** @type {HTMLFormElement} */ (button.closest("form"));
  const url = `${root}act/${form.dataset.path}`;
  await request("PATCH", url, changed(form));
  sessionStorage.setItem("undo", JSON.stringify([location.pathname, url, changed(form, was)]));
  location.reload();
});

const [saved, url, before] = JSON.parse(sessionStorage.getItem("undo") ?? "[]");
sessionStorage.removeItem("undo");
if (saved === location.pathname) toast("Saved.", () => request("PATCH", url, before).then(() => location.reload()));

onAct("end-session", async (button) => {
  const { name = "", id } = button.dataset;
  const { ended } = await request("DELETE", `${root}act/users/${encodeURIComponent(name)}/sessions${id ? `/${id}` : ""}`);
  for (const row of document.querySelectorAll(id ? `#session-${id}` : "[id^=session-]")) row.remove();
  toast(ended === 1 ? "1 session ended." : `${ended} sessions ended.`);
});
