// @ts-check
// The last check of the start page: one short answer, its duration, its server and the reason for that server.
import { explained, onAct, root, send, told } from "./actions.js";

onAct("try-model", async (button) => {
  const place = /** @type {HTMLElement} */ (document.querySelector("[data-trial]"));
  const body = { model: button.dataset.model, messages: [{ role: "user", content: "Answer with the one word: ready" }], stream: false, options: { num_predict: 16 } };
  const began = performance.now();
  /** @type {HTMLButtonElement} */ (button).disabled = true;
  place.textContent = "Waiting for the answer";
  try {
    const answer = await send("POST", `${root}play/api/chat`, body);
    const { error } = await told(answer);
    if (error) throw new Error(error);
    const [where, why] = ["server", "reason"].map((name) => answer.headers.get(`x-router-${name}`));
    place.textContent = `Answered in ${((performance.now() - began) / 1000).toFixed(1)} s by ${where}: ${why}.`;
    holds();
  } catch (error) {
    place.replaceChildren("No answer: ", ...explained(error));
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
  check.replaceChildren(mark, " ", word, "You have just received an answer");
}
