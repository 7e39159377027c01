// @ts-check
// Live parts of a page: fetched again when the stream names them, or every two seconds without a stream, and merged in place
// to keep focus and selection.
import { leaveEvents, readEvents } from "./events.js";
import { buttonOf, codeOf, explained, isChanged, root, told } from "./actions.js";
import { showMoments, today } from "./moments.js";
import { signInAgain } from "./session.js";

const EVERY = 2_000;
const FAILING = [1_000, 2_000, 4_000, 8_000, 12_000];
const SOONEST = 500;
const STALE = 4_500; // a little over twice the interval of heartbeats
const SILENT = 6_000; // a proxy that buffers the stream makes it useless
const HIDDEN = 10_000;
const ANNOUNCE = 5_000;

let paused = false;
let looking = false;
let due = false;
let failures = 0;
let heard = performance.now();
let looked = 0;
let next = 0;
let shown = 0;
let tag = "";
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let watching = false;
let first = true;
let noStreamBefore = 0;

const policy = globalThis.trustedTypes?.createPolicy("fragment", { createHTML: (/** @type {string} */ text) => text });

/** A part of a page, as nodes. @param {string} text */
export const fragment = (text) =>
  new DOMParser().parseFromString(/** @type {string} */ (policy ? policy.createHTML(text) : text), "text/html");

const region = () => /** @type {HTMLElement | null} */ (document.querySelector("[data-live]"));

export function togglePause() {
  if (!region()) return;
  paused = !paused;
  if (!paused) look();
  tell();
}

export function startLive() {
  const place = region();
  if (!place) return;
  const url = `${root}events?topics=${encodeURIComponent(place.dataset.live ?? "")}`;
  document.addEventListener("visibilitychange", () => (document.hidden ? setTimeout(() => document.hidden && leaveEvents(), HIDDEN) : comeBack()));
  setInterval(tell, SOONEST);
  timer = setTimeout(look, EVERY);
  tell();
  watch(url);
  setInterval(() => watch(url), 1_000);
}

/** Read the stream if this tab may, until it ends. @param {string} url */
async function watch(url) {
  if (watching || failures || document.hidden || performance.now() < noStreamBefore) return;
  watching = true;
  first = true;
  const rest = await readEvents(url, hear);
  watching = false;
  noStreamBefore = performance.now() + rest * (1 + Math.random());
  look();
}

function hear(/** @type {string[]} */ names) {
  heard = performance.now();
  if (first || names.length) look();
  first = false;
}

function comeBack() {
  shown = performance.now();
  noStreamBefore = 0;
  look();
}

/** Fetch now, or as soon as allowed; parts named in the meantime are fetched once. */
function look() {
  due = true;
  if (looking) return;
  clearTimeout(timer);
  timer = setTimeout(fetchDue, Math.max(0, looked + SOONEST - performance.now()));
}

async function fetchDue() {
  const place = region();
  if (looking || !place) return;
  if (!paused && !document.hidden) {
    looking = true;
    due = false;
    looked = performance.now();
    await fetchInto(place);
    looking = false;
  }
  if (due && !paused && !document.hidden && !failures) return look();
  const rest = pause();
  next = performance.now() + rest;
  timer = setTimeout(fetchDue, rest);
}

/** Milliseconds until the next fetch without an event. */
function pause() {
  if (failures) return (FAILING[Math.min(failures, FAILING.length) - 1] ?? 0) * (0.75 + Math.random() / 2);
  return watching ? 60_000 : EVERY;
}

async function fetchInto(/** @type {HTMLElement} */ place) {
  try {
    const headers = { "x-console": "1", ...(tag ? { "if-none-match": tag } : {}) };
    const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (answer.status === 401) return await leave();
    if (answer.status !== 304) {
      if (!answer.ok) await told(answer);
      tag = merge(place, await answer.text()) ? (answer.headers.get("etag") ?? "") : "";
    }
    failures = 0;
    heard = performance.now();
    fault(null);
  } catch (error) {
    failures += 1;
    fault(error);
  }
  tell();
}

/** What the router answers instead, once; what is shown stays, and is asked for again. @param {any} error */
function fault(error) {
  const place = /** @type {HTMLElement | null} */ (document.querySelector("[data-fault]"));
  const code = codeOf(error);
  if (!place || place.dataset.fault === code) return;
  place.dataset.fault = code;
  place.replaceChildren(...(code ? [...explained(error), " ", buttonOf("Try again", look)] : []));
}

/** The session has ended: reload, unless that loses typed input or an open dialog; then ask to sign in over the page. */
async function leave() {
  const typed = [...document.querySelectorAll("main input, main select, main textarea")].some(isChanged);
  if (!typed && !document.querySelector("dialog[open]")) return location.reload();
  await signInAgain();
  failures = 0;
  tag = "";
  due = true;
}

/** Replace what differs, unless it is being selected. @param {HTMLElement} place @param {string} text */
function merge(place, text) {
  if (getSelection()?.toString() && place.contains(getSelection()?.anchorNode ?? null)) return false;
  const made = fragment(text);
  showMoments(made);
  const rows = [...made.querySelectorAll("tr[id^=row-]")];
  const fresh = rows.filter((row) => !document.getElementById(row.id)).length;
  const waits = fresh > 0 && (scrollY > 0 || place.contains(document.activeElement));
  offer(waits ? fresh : 0, () => mergeChildren(place, made.body));
  requestAnimationFrame(() => (waits ? mergeKnown(rows) : mergeChildren(place, made.body)));
  return true;
}

/** What is read stays where it is: of rows that are there already, what has changed. @param {Element[]} rows */
function mergeKnown(rows) {
  for (const row of rows) {
    const known = document.getElementById(row.id);
    if (known) mergeNode(known, /** @type {Element} */ (row.cloneNode(true)));
  }
}

/** New rows wait behind a button while somebody reads: they would move it. @param {number} count @param {() => void} show */
function offer(count, show) {
  const button = document.querySelector("[data-act=show-new]");
  if (!(button instanceof HTMLButtonElement)) return;
  button.hidden = count === 0;
  button.textContent = `${count} new`;
  button.onclick = () => {
    button.hidden = true;
    show();
  };
}

/** Elements with an id keep their place, so that focus, scrolling and open details survive. @param {Element} old @param {Element} fresh */
function mergeChildren(old, fresh) {
  const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  for (const child of [...old.children]) if (child.id && !wanted.has(child.id)) child.remove();
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const id = child instanceof Element ? child.id : "";
    const same = id ? known.get(id) : at && !(at instanceof Element && at.id) && at.nodeName === child.nodeName ? at : undefined;
    if (!same) {
      old.insertBefore(child, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    mergeNode(same, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** @param {ChildNode} known @param {ChildNode} fresh */
function mergeNode(known, fresh) {
  if (known.isEqualNode(fresh)) return;
  const both = known instanceof Element && fresh instanceof Element && known.tagName === fresh.tagName;
  if (!both || known instanceof SVGElement || known.childElementCount === 0) {
    if (known !== document.activeElement) known.replaceWith(fresh);
    return;
  }
  for (const { name } of [...known.attributes]) if (!fresh.hasAttribute(name) && name !== "open") known.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (known.getAttribute(name) !== value) known.setAttribute(name, value);
  mergeChildren(known, fresh);
}

/** Show whether the page is current; stale data is dimmed and its buttons are disabled. */
function tell() {
  const now = performance.now();
  const age = now - heard;
  if (age > SILENT) leaveEvents();
  const stale = age > STALE && now - shown > SOONEST && !document.hidden && !paused;
  const { classList } = document.documentElement;
  if (stale !== classList.contains("stale")) for (const button of region()?.querySelectorAll("button") ?? []) button.disabled = stale;
  classList.toggle("stale", stale);
  const place = document.querySelector("[data-liveness]");
  const text = paused ? "paused (p)" : stale ? howStale(age, now) : "live";
  if (place && place.textContent !== text) place.textContent = text;
  announce(paused ? "paused" : stale ? "not connected" : "live");
}

function howStale(/** @type {number} */ age, /** @type {number} */ now) {
  const away = failures && !document.querySelector("[data-fault]")?.childElementCount;
  const seen = `as of ${today.format(Date.now() - age)}`;
  return away ? `${seen}, not connected, trying again in ${Math.max(0, Math.ceil((next - now) / 1000))} s` : `${seen}, ${Math.round(age / 1000)} s old`;
}

let announced = "live";
let toldAt = -ANNOUNCE;

/** Announce it to screen readers, at most once in five seconds. @param {string} text */
function announce(text) {
  if (text === announced || performance.now() - toldAt < ANNOUNCE) return;
  announced = text;
  toldAt = performance.now();
  document.querySelector("[data-announced]")?.replaceChildren(text);
}
