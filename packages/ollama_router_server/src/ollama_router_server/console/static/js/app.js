// @ts-check
// The console's script. Pages are readable without it; forms and live parts need it.
import { confirmed, copyFrom, onAct, onSignedOut, request, root, toast, typed } from "./actions.js";
import { startLive, togglePause } from "./live.js";
import { claimFromAddress, showSecret, signIn, signInAgain, signOut } from "./session.js";
import { showMoments } from "./moments.js";

const look = document.documentElement.dataset;
const chosen = localStorage.getItem("theme");
if (chosen) look.theme = chosen;
onAct("theme", () => {
  const dark = look.theme ? look.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  localStorage.setItem("theme", (look.theme = dark ? "light" : "dark"));
});

onAct("menu", (button) => {
  const open = document.getElementById("rail")?.classList.toggle("open") ?? false;
  button.setAttribute("aria-expanded", String(open));
});

onAct("copy", copyFrom);
onAct("sign-in", signIn);
onSignedOut(signInAgain);
onAct("sign-out", signOut);

onAct("search", (form) => (location.href = `${root}find?q=${encodeURIComponent(typed(form).q ?? "")}`));

onAct("drain", async (button) => {
  const { name = "", on } = button.dataset;
  const set = (/** @type {boolean} */ drain) =>
    request("POST", `${root}act/servers/${encodeURIComponent(name)}/${drain ? "drain" : "undrain"}`);
  await set(on === "yes");
  toast(on === "yes" ? `${name} is draining: it gets no new requests and finishes those in flight.` : `${name} takes requests again.`, () => set(on !== "yes"));
});

onAct("probe", async (button) => {
  const { name = "" } = button.dataset;
  const told = await request("POST", `${root}act/servers/${encodeURIComponent(name)}/probe`);
  const models = told.models === null ? "" : `, ${told.models} models`;
  toast(told.answered ? `${name} answered in ${told.probe_ms ?? "?"} ms: ${told.state}, Ollama ${told.version}${models}.` : `${name}: ${told.error}.`);
});

onAct("cancel", async (button) => {
  const { id = "", what = "this request" } = button.dataset;
  if (!(await confirmed(`Cancel ${what}? The client gets an error. In a shell: orouter requests cancel ${id}`, "Cancel the request"))) return;
  await request("POST", `${root}act/requests/${id}/cancel`);
  toast("Request cancelled.");
});

onAct("activate", async (button) => {
  const { name = "", on } = button.dataset;
  const set = (/** @type {boolean} */ active) => request("PATCH", `${root}act/users/${encodeURIComponent(name)}`, { active });
  await set(on === "yes");
  button.dataset.on = on === "yes" ? "no" : "yes";
  button.textContent = on === "yes" ? "Deactivate" : "Activate";
  toast(on === "yes" ? `${name} is activated.` : `${name} is deactivated.`, () => set(on !== "yes"));
});

onAct("invite-user", async (form) => {
  const { with: means, ...values } = typed(form);
  const made = await request("POST", `${root}act/users`, { ...values, invite: means === "link" });
  showSecret(made.name, made.token ?? made.invitation.link);
});
onAct("invite", async ({ dataset: { name = "" } }) =>
  showSecret(name, (await request("POST", `${root}act/users/${encodeURIComponent(name)}/invitation`)).link));
onAct("uninvite", async ({ dataset: { name = "" } }) => {
  const { withdrawn } = await request("DELETE", `${root}act/users/${encodeURIComponent(name)}/invitation`);
  toast(withdrawn ? `${name}'s links no longer work.` : `${name} has no unused links.`);
});
onAct("add-token", async (form) => {
  const { name, priority } = typed(form);
  const made = await request("POST", `${root}act/me/tokens`, { name, batch: priority === "batch" });
  showSecret(made.name, made.token);
});

onAct("make", async (form) => {
  const { path = "" } = form.dataset;
  location.href = `${root}${path}/${encodeURIComponent((await request("POST", `${root}act/${path}`, typed(form))).name)}`;
});
onAct("remove", async (button) => {
  const { path, name, text = "", verb = "", next = "" } = button.dataset;
  if (!(await confirmed(text, verb, name))) return;
  await request("DELETE", `${root}act/${path}`);
  location.href = root + next;
});

onAct("filter", (form) => {
  const query = new URLSearchParams(Object.entries(typed(form)).filter(([, value]) => value));
  location.href = `${location.pathname}${query.size ? `?${query}` : ""}`;
});

document.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target);
  const row = target.closest("tr[data-href]");
  if (row instanceof HTMLElement && !target.closest("a, button") && !getSelection()?.toString())
    location.href = row.dataset.href ?? "";
});

// Keys: `/` searches, `j` and `k` move between rows, Enter opens, `p` pauses live parts.
document.addEventListener("keydown", (event) => {
  const target = /** @type {Element} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("search")?.focus();
  } else if (event.key === "p") {
    togglePause();
  } else if (event.key === "j" || event.key === "k" || (event.key.startsWith("Arrow") && target.closest("tr[data-href]"))) {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") return;
    event.preventDefault();
    move(event.key === "j" || event.key === "ArrowDown" ? 1 : -1);
  }
});

function move(/** @type {number} */ step) {
  const links = [...document.querySelectorAll("tr[data-href]")].map((row) => row.querySelector("a"));
  const at = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
  const next = links[Math.max(0, Math.min(links.length - 1, at + step))];
  if (next instanceof HTMLElement) next.focus();
}

// While the next page loads, this one is dimmed and a bar is shown; if the browser reports that the next page has the same path,
// its skeleton is shown. A download does not leave the page, and neither does a failed one: no event reports either.
let leaving = 0;
let saves = false;
let alike = false;
function stay() {
  clearTimeout(leaving);
  document.documentElement.classList.remove("loading", "skeleton");
}
/** @type {any} */ (globalThis).navigation?.addEventListener("navigate", (/** @type {any} */ event) => {
  alike = new URL(event.destination.url).pathname === location.pathname;
});
addEventListener("click", ({ target }) => (saves = target instanceof Element && target.closest("a[download]") !== null), true);
addEventListener("beforeunload", () => {
  stay();
  if (saves) return;
  leaving = setTimeout(() => {
    document.documentElement.classList.add("loading", ...(alike ? ["skeleton"] : []));
    leaving = setTimeout(stay, 15_000);
  }, 150);
});
addEventListener("keydown", ({ key }) => key === "Escape" && stay());
addEventListener("pageshow", stay);

claimFromAddress();
showMoments(document);
startLive();
