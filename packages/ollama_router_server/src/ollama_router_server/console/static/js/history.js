// @ts-check
// The slider of a day: the models each server ran at that minute, and how many requests ran and waited.

const slider = document.querySelector("[data-minute]");
const told = document.querySelectorAll("[data-minute-told]");
const strips = /** @type {NodeListOf<SVGElement>} */ (document.querySelectorAll("[data-strip]"));

if (slider instanceof HTMLInputElement) {
  const worlds = [...strips].map((strip, place) => ({ strip, told: told[place], moments: momentsOf(strip) }));
  const show = () => worlds.forEach((world) => tell(world, Number(slider.value)));
  slider.addEventListener("input", show);
  show();
}

/** @param {SVGElement} strip */
function momentsOf(strip) {
  return new Map(
    (strip.dataset.moments ?? "").trim().split(" ").map((text) => {
      const [step = 0, running = 0, waiting = 0, errors = 0] = text.split(":").map(Number);
      return [step, { running, waiting, errors }];
    }),
  );
}

/** Show one world at a step of the day: a sentence, and a line on its strip.
 * @param {{ strip: SVGElement, told: Element | undefined, moments: ReturnType<typeof momentsOf> }} world @param {number} step */
function tell({ strip, told, moments }, step) {
  const began = new Date((Number(strip.dataset.begin) + step * Number(strip.dataset.step)) * 1000);
  const { running, waiting, errors } = moments.get(step) ?? { running: 0, waiting: 0, errors: 0 };
  const failed = errors ? `, ${errors} failed` : "";
  const servers = [...strip.querySelectorAll("[data-server]")].map((lane) => held(lane, step)).filter(Boolean);
  const wrong = at(strip, "[data-incident]", step).map((mark) => mark.dataset.incident);
  const rest = [servers.join("; "), ...wrong].filter(Boolean).join(". ");
  if (told) told.textContent = `${began.toISOString().slice(11, 16)}Z: ${running} ran, ${waiting} waited${failed}. ${rest}`;
  const line = strip.querySelector("[data-strip-line]");
  for (const name of ["x1", "x2"]) line?.setAttribute(name, String(step + 0.5));
  line?.setAttribute("visibility", "visible");
}

/** @param {Element} lane @param {number} step */
function held(lane, step) {
  const models = at(lane, "[data-model]", step).map((block) => block.dataset.model);
  return models.length ? `${lane.getAttribute("data-server")}: ${models.join(", ")}` : "";
}

/** What of these lies over a step. @type {(inside: Element, selector: string, step: number) => SVGRectElement[]} */
function at(inside, selector, step) {
  const found = /** @type {NodeListOf<SVGRectElement>} */ (inside.querySelectorAll(selector));
  return [...found].filter((one) => one.x.baseVal.value <= step && step < one.x.baseVal.value + one.width.baseVal.value);
}
