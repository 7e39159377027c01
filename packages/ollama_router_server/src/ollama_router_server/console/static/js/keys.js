// @ts-check
// Keys: `/` searches, `j` and `k` move between rows, Enter opens, `p` pauses live parts.
import { togglePause } from "./live.js";

export function startKeys() {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {Element} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("search")?.focus();
    } else if (event.key === "p") {
      togglePause();
    } else if (event.key === "j" || event.key === "k") {
      move(event.key === "j" ? 1 : -1);
    }
  });
}

/** @param {number} step */
function move(step) {
  const links = [...document.querySelectorAll("tr[data-href] a:first-of-type")];
  const at = links.indexOf(/** @type {Element} */ (document.activeElement));
  const next = links[Math.max(0, Math.min(links.length - 1, at + step))];
  if (next instanceof HTMLElement) next.focus();
}
