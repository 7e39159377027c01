// @ts-check
// Parts of a page that follow the router: fetched anew while the tab is visible, merged without losing what is read.
import { showMoments } from "./moments.js";

const EVERY = 2000;
const FAILING = [1000, 2000, 4000, 8000, 15000];
let paused = false;
let failures = 0;
let heard = performance.now();
let tag = "";

const policy = globalThis.trustedTypes?.createPolicy("fragment", { createHTML: (/** @type {string} */ text) => text });

export function togglePause() {
  paused = !paused;
  tell();
}

export function startLive() {
  const place = document.querySelector("[data-live]");
  if (!place) return;
  tell();
  setInterval(tell, 1000);
  setTimeout(() => follow(place), EVERY);
}

/** @param {Element} place */
async function follow(place) {
  if (!paused && !document.hidden) await fetchInto(place);
  const wait = failures ? (FAILING[Math.min(failures, FAILING.length) - 1] ?? 15000) * (0.75 + Math.random() / 2) : EVERY;
  setTimeout(() => follow(place), wait);
}

/** @param {Element} place */
async function fetchInto(place) {
  try {
    const headers = { "x-console": "1", ...(tag ? { "if-none-match": tag } : {}) };
    const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (answer.status === 401) return location.reload();
    if (answer.status !== 304) {
      if (!answer.ok) throw new Error(String(answer.status));
      merge(place, await answer.text());
      tag = answer.headers.get("etag") ?? "";
    }
    failures = 0;
    heard = performance.now();
  } catch {
    failures += 1;
  }
  tell();
}

/**
 * Replace what differs: elements with an id keep their place, so focus, selection and scrolling survive.
 * @param {Element} place
 * @param {string} text
 */
function merge(place, text) {
  const made = new DOMParser().parseFromString(/** @type {string} */ (policy ? policy.createHTML(text) : text), "text/html");
  showMoments(made);
  if (getSelection()?.toString() && place.contains(getSelection()?.anchorNode ?? null)) return;
  requestAnimationFrame(() => mergeChildren(place, made.body));
}

/**
 * @param {Element} old
 * @param {Element} fresh
 */
function mergeChildren(old, fresh) {
  const known = [...old.childNodes];
  const wanted = [...fresh.childNodes];
  wanted.forEach((child, index) => {
    const there = known[index];
    if (there) mergeNode(there, child);
    else old.append(child);
  });
  known.slice(wanted.length).forEach((node) => node.remove());
}

/**
 * @param {ChildNode} known
 * @param {ChildNode} fresh
 */
function mergeNode(known, fresh) {
  if (known.isEqualNode(fresh)) return;
  const same = known instanceof Element && fresh instanceof Element && known.tagName === fresh.tagName && known.id === fresh.id;
  if (!same || known instanceof SVGElement || known.childElementCount === 0) {
    if (known === document.activeElement) return;
    known.replaceWith(fresh);
    return;
  }
  for (const { name } of [...known.attributes]) if (!fresh.hasAttribute(name) && name !== "open") known.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (known.getAttribute(name) !== value) known.setAttribute(name, value);
  mergeChildren(known, fresh);
}

function tell() {
  const place = document.querySelector("[data-liveness]");
  const age = Math.round((performance.now() - heard) / 1000);
  const stale = age > 6 && !document.hidden && !paused;
  document.documentElement.classList.toggle("stale", stale);
  if (place) place.textContent = paused ? "paused (p)" : stale ? `not connected, ${age} s old` : "live";
}
