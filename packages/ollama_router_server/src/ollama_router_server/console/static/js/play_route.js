// @ts-check
// What the router says of a request while it waits, loads and writes, once a second; then where its time went, and why there.
import { fragment } from "./live.js";

const EVERY = 1_000;
const MOST = 10; // looks for the row of a request that has ended
const headers = { "x-console": "1" };
const root = document.body.dataset.root ?? "./";

/**
 * @param {HTMLElement} column
 * @param {string} id
 * @param {() => boolean} shown whether the column is still about this request, and its answer has not begun
 */
export async function followRoute(column, id, shown) {
  const part = (/** @type {string} */ name) => /** @type {HTMLElement} */ (column.querySelector(`[data-play-${name}]`));
  const still = () => part("request").textContent === id && !part("request").hidden;
  for (let missed = 0; missed < MOST && still(); await new Promise((resolve) => setTimeout(resolve, EVERY))) {
    const answer = await fetch(`${root}act/requests/${id}`, { headers }).catch(() => null);
    const told = answer?.ok ? await answer.json() : null;
    if (!told) missed += 1;
    if (!told || !still()) continue;
    part("server").textContent = told.server ?? "–";
    part("reason").textContent = told.reason ?? "–";
    if (told.outcome !== "in_progress") return showParts(part("parts"), id);
    if (shown()) part("state").textContent = told.sentence;
  }
}

/** @param {HTMLElement} place @param {string} id */
async function showParts(place, id) {
  const answer = await fetch(`${root}requests/${id}`, { headers });
  if (answer.ok) place.replaceChildren(...fragment(await answer.text()).querySelectorAll("svg.timeline, .scroll:has(.verdicts)"));
}
