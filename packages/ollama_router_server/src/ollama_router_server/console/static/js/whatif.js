// @ts-check
// What-if: a stream reports the progress, then the answer; closing the stream cancels the work.
import { onAct, pieces, root, send, told, typed } from "./actions.js";
import { fragment } from "./live.js";

let running = /** @type {AbortController | null} */ (null);
onAct("stop-whatif", () => running?.abort());

onAct("ask-whatif", async (form) => {
  const { signal } = (running = new AbortController());
  const query = new URLSearchParams(Object.entries(typed(form)).filter(([, value]) => value));
  const place = /** @type {HTMLElement} */ (form.querySelector("[data-progress]"));
  place.hidden = false;
  try {
    const answer = await send("GET", `${root}whatif/events?${query}`, undefined, signal);
    if (!answer.ok) await told(answer);
    for await (const event of pieces(answer, "\n\n")) {
      const { done, of, html, error, code } = JSON.parse(/^data: (.*)$/m.exec(event)?.[1] ?? "{}");
      if (error) throw Object.assign(new Error(error), { code });
      if (of) place.querySelector("progress")?.setAttribute("value", String(done / of));
      if (!html) continue;
      history.replaceState(null, "", `?${query}`);
      document.querySelector("[data-whatif]")?.replaceChildren(...fragment(html).body.childNodes);
      return;
    }
    throw new Error("The stream ended without an answer.");
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    running = null;
    place.hidden = true;
  }
});
