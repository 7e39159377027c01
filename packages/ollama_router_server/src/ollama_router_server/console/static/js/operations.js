// @ts-check
// Operations on models: started here, carried out by the router.
import { confirmed, onAct, request, root, toast, typed } from "./actions.js";

const counted = (/** @type {number} */ count, /** @type {string} */ noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

onAct("operate", async (form) => {
  /** @type {Record<string, unknown>} */
  const values = Object.fromEntries(Object.entries(typed(form)).filter(([, value]) => value));
  if (values.context) values.context = Number(values.context);
  if (values.kind === "delete" && !(await mayGo(String(values.model), String(values.servers ?? "")))) return;
  const begun = await request("POST", `${root}act/operations`, values);
  toast(`Started ${begun.kind} of ${begun.model} on ${counted(begun.targets.length, "server")}.`);
});
onAct("cancel-operation", async (button) => {
  await request("DELETE", `${root}act/operations/${button.dataset.id}`);
  toast("Operation cancelled; completed steps are not undone.");
});
onAct("retry-operation", async (button) => {
  await request("POST", `${root}act/operations/${button.dataset.id}/retry`);
  toast("Operation retried.");
});

onAct("unload-all", async (button) => {
  const { name = "", running = "0" } = button.dataset;
  const models = /** @type {string[]} */ (JSON.parse(button.dataset.models ?? "[]"));
  const busy = running === "0" ? "Nothing runs there." : `${running} running there: the server ends them first.`;
  if (!(await confirmed(`Unload ${models.join(", ")} from ${name}? ${busy}`, "Unload"))) return;
  const refused = /** @type {string[]} */ ([]);
  for (const model of models) {
    const values = { kind: "unload", model, servers: name };
    await request("POST", `${root}act/operations`, values).catch(({ message }) => refused.push(`${model}: ${message}`));
  }
  if (refused.length < models.length) toast(`Started to unload ${counted(models.length - refused.length, "model")} from ${name}.`);
  if (refused.length) throw new Error(`Refused: ${refused.join("; ")}`);
});

/** @param {string} model @param {string} servers */
async function mayGo(model, servers) {
  const found = await request("GET", `${root}act/usage/users?model=${encodeURIComponent(model)}`);
  const people = found.users.map((/** @type {{name: string?, requests: number}} */ one) => `${one.name ?? "?"} (${one.requests})`);
  const used = people.length ? `Used in the last seven days by ${people.slice(0, 8).join(", ")}${people.length > 8 ? " and others" : ""}.` : "Nobody used it in the last seven days.";
  return confirmed(`Delete ${model} on ${servers || "every server that has it"}? ${used}`, "Delete", model);
}
