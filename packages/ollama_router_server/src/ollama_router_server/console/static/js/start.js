// @ts-check
// Start's last check: one short answer, with how long it took, where it came from and why there.
import { onAct } from "./actions.js";

const root = document.body.dataset.root ?? "./";
const QUESTION = "Answer with the one word: ready";

onAct("try-model", async (button) => {
  const told = /** @type {HTMLElement} */ (document.querySelector("[data-trial]"));
  const body = { model: button.dataset.model, messages: [{ role: "user", content: QUESTION }], stream: false, options: { num_predict: 16 } };
  const began = performance.now();
  /** @type {HTMLButtonElement} */ (button).disabled = true;
  told.textContent = "Waiting for the answer";
  try {
    const answer = await fetch(`${root}play/api/chat`, {
      method: "POST",
      headers: { "x-console": "1", "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const { error } = await answer.json().catch(() => ({ error: `the router answered ${answer.status}` }));
    const where = answer.headers.get("x-router-server");
    if (!answer.ok || error) throw new Error(error ?? `the router answered ${answer.status}`);
    told.textContent = `Answered in ${((performance.now() - began) / 1000).toFixed(1)} s by ${where}: ${answer.headers.get("x-router-reason")}.`;
    holds();
  } catch (error) {
    told.textContent = `No answer: ${error instanceof Error ? error.message : error}.`;
  } finally {
    /** @type {HTMLButtonElement} */ (button).disabled = false;
  }
});

function holds() {
  const check = /** @type {HTMLElement} */ (document.getElementById("check-answered"));
  check.className = "holds";
  const [mark, word] = /** @type {HTMLElement[]} */ ([...check.children]);
  if (!mark || !word) return;
  mark.textContent = "✓";
  word.textContent = "Holds: ";
  check.replaceChildren(mark, " ", word, "You were answered just now");
}
