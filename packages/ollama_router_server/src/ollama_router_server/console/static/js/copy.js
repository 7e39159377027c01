// @ts-check
// Copying works on plain HTTP, too, where browsers withhold navigator.clipboard.

/** @param {HTMLElement} button */
export async function copyFrom(button) {
  const source = document.getElementById(button.dataset.from ?? "");
  if (!source) return;
  const text = source.textContent ?? "";
  const copied = navigator.clipboard ? await navigator.clipboard.writeText(text).then(() => true, () => false) : false;
  if (!copied) select(source);
  const done = copied || document.execCommand("copy");
  button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

/** @param {HTMLElement} source */
function select(source) {
  const range = document.createRange();
  range.selectNodeContents(source);
  const selection = getSelection();
  selection?.removeAllRanges();
  selection?.addRange(range);
}
