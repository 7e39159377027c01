// @ts-check
// Times in the reader's time zone, and running elapsed times.
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const other = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
export const today = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** @param {ParentNode} place */
export function showMoments(place) {
  for (const element of place.querySelectorAll("time[data-wall]")) {
    if (!(element instanceof HTMLElement)) continue;
    const moment = new Date(Number(element.dataset.wall) * 1000);
    element.title = whole.format(moment);
    element.setAttribute("datetime", moment.toISOString());
    element.textContent = (moment.toDateString() === new Date().toDateString() ? today : other).format(moment);
  }
}

let ticked = performance.now();
setInterval(() => {
  const now = performance.now();
  for (const element of document.querySelectorAll("[data-elapsed]")) {
    if (!(element instanceof HTMLElement)) continue;
    const seconds = Number(element.dataset.elapsed) + (now - ticked) / 1000;
    element.dataset.elapsed = String(seconds);
    element.textContent = `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  }
  ticked = now;
}, 500);
