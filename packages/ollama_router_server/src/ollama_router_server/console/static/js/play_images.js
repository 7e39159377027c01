// @ts-check
// Images pasted or dropped into the playground's message: shown, sent with it, and stored nowhere else.
import { buttonOf, toast } from "./actions.js";

const MOST = 8;
const LARGEST = 8 * 2 ** 20;
const place = /** @type {HTMLElement} */ (document.querySelector("[data-play-images]"));
const prompt = /** @type {HTMLElement} */ (document.querySelector("#prompt"));

/** @type {Map<Element, string>} */
const kept = new Map();

/** The form that Ollama accepts: base64 without a prefix. */
export const pastedImages = () => [...kept.values()];

prompt.addEventListener("paste", (event) => take(event, event.clipboardData));
prompt.addEventListener("drop", (event) => take(event, event.dataTransfer));

/** @param {Event} event @param {DataTransfer | null} data */
function take(event, data) {
  const images = [...(data?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  if (!images.length) return;
  event.preventDefault();
  for (const image of images) keep(image);
}

/** @param {File} image */
async function keep(image) {
  if (kept.size >= MOST || image.size > LARGEST) return toast(`at most ${MOST} images of ${LARGEST / 2 ** 20} MiB`);
  const reader = new FileReader();
  reader.readAsDataURL(image);
  await new Promise((done) => reader.addEventListener("loadend", done));
  if (reader.error) return toast(`${image.name || "the image"} cannot be read`);
  if (kept.size >= MOST) return;
  const shown = document.createElement("figure");
  const picture = Object.assign(new Image(), { src: URL.createObjectURL(image), alt: image.name || "pasted image" });
  const leave = () => (kept.delete(shown), URL.revokeObjectURL(picture.src), shown.remove());
  shown.append(picture, buttonOf("Leave out", leave));
  kept.set(shown, String(reader.result).replace(/^[^,]*,/, ""));
  place.append(shown);
}
