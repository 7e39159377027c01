// @ts-check
// The playground's request as code to copy: TOKEN is a placeholder for your token, and an image appears by name only.

const LONGEST = 200;

/** @param {string} key @param {unknown} value */
const named = (key, value) => (key === "images" && Array.isArray(value) ? value.map((one) => (one.length > LONGEST ? "IMAGE" : one)) : value);

/** @param {string} base @param {object} body @param {string} pin */
export function asCurl(base, body, pin) {
  const quoted = JSON.stringify(body, named).replaceAll("'", "'\\''");
  return `curl ${base}/api/chat -H "Authorization: Bearer TOKEN"${pin && ` -H 'X-Router-Pin: ${pin.replaceAll("'", "'\\''")}'`} -d '${quoted}'`;
}

/** @param {string} base @param {object} body @param {string} pin */
export function asPython(base, body, pin) {
  const given = Object.entries(body).map(([name, value]) => `    ${name}=${literal(JSON.parse(JSON.stringify({ [name]: value }, named))[name])},\n`);
  return `from ollama import Client\n\nclient = Client(host=${JSON.stringify(base)}, headers={"Authorization": "Bearer TOKEN"${pin && `, "X-Router-Pin": ${JSON.stringify(pin)}`}})\nanswer = client.chat(\n${given.join("")})\nprint(answer.message.content)\n`;
}

/** A value as Python writes it. @param {unknown} value @returns {string} */
function literal(value) {
  if (value === null || value === undefined) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}
