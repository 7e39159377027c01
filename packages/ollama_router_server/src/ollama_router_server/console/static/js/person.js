// @ts-check
// One person: what a change would mean is shown before it is saved; sessions are ended.
import { onAct, request, toast } from "./actions.js";

const root = document.body.dataset.root ?? "./";
const LISTS = ["models"];
const NUMBERS = ["requests_per_minute", "concurrent_requests", "tokens_per_day", "tokens_per_month"];

/** @param {string} name */
const person = (name) => `${root}act/users/${encodeURIComponent(name)}`;
const save = /** @type {HTMLButtonElement | null} */ (document.querySelector("[data-act=save-rights]"));

/**
 * What the form asks for, as `PATCH` takes it: an empty field takes a grant back.
 * @param {HTMLFormElement} form
 */
function changed(form) {
  const { role, group, ...given } = Object.fromEntries(new FormData(form));
  /** @type {Record<string, unknown>} */
  const grants = {};
  for (const [name, text] of Object.entries(given)) {
    const typed = text.toString().trim();
    const value = LISTS.includes(name) ? typed.split(/\s*,\s*/) : NUMBERS.includes(name) ? Number(typed) : typed;
    grants[name] = typed ? value : null;
  }
  return { ...(role ? { role } : {}), group: group || null, grants };
}

onAct("preview-rights", async (element) => {
  const form = /** @type {HTMLFormElement} */ (element);
  const view = await request("POST", `${person(form.dataset.name ?? "")}/rights`, changed(form));
  document.querySelector("[data-preview]")?.replaceChildren(`If saved: ${view.sentence}`);
  for (const { name, text, origin } of view.rights) {
    const row = document.querySelector(`[data-right=${name}]`);
    const [, holds, from] = row?.children ?? [];
    const now = holds?.querySelector("bdi");
    if (!row || !now || !from) continue;
    from.querySelector("b")?.remove();
    const differs = now.textContent !== text || from.textContent?.trim() !== origin;
    row.classList.toggle("differs", differs);
    if (!differs) continue;
    const next = document.createElement("b");
    next.textContent = ` → ${text}, ${origin}`;
    from.append(next);
  }
  if (save) save.disabled = false;
});

document.querySelector("form[data-act=preview-rights]")?.addEventListener("input", () => {
  if (save) save.disabled = true;
});

onAct("save-rights", async (button) => {
  const form = /** @type {HTMLFormElement} */ (button.closest("form"));
  await request("PATCH", person(form.dataset.name ?? ""), changed(form));
  location.reload();
});

onAct("end-session", async (button) => {
  const { name = "", id } = button.dataset;
  const { ended } = await request("DELETE", `${person(name)}/sessions${id ? `/${id}` : ""}`);
  for (const row of document.querySelectorAll(id ? `#session-${id}` : "[id^=session-]")) row.remove();
  toast(ended === 1 ? "The session is ended." : `${ended} sessions are ended.`);
});
