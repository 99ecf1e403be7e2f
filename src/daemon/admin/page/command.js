// A form that sends a command: the JSON Schema of the operation becomes its fields, and replies are shown as they come.

import { clock, element, fill } from "./dom.js";
import { fields, value } from "./schema.js";
import { read, request } from "./stream.js";

/** What a reply can confirm, from the least to the most. */
const LEVELS = ["accepted", "sent", "acked", "response"];

let operations = {};

/** Reads the operations of every instance, and makes the form work. */
export async function start(section) {
  const form = section.querySelector("form");
  form.elements.instance.addEventListener("change", () => showInstance(form));
  form.elements.operation.addEventListener("change", () => showOperation(form));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, section.querySelector(".replies"));
  });
  await load(form);
}

async function load(form) {
  const response = await request("operations");
  if (!response.ok) return;
  operations = Object.fromEntries((await response.json()).map(({ instance, operations: list }) => [instance, list]));
  fill(form.elements.instance, Object.keys(operations));
  showInstance(form);
}

/** Reads the operations again if the instances are others now. */
export function instances(section, names) {
  if (names.join() !== Object.keys(operations).join()) load(section.querySelector("form"));
}

function chosen(form) {
  const list = operations[form.elements.instance.value] ?? [];
  return list.find((operation) => operation.name === form.elements.operation.value);
}

function showInstance(form) {
  fill(form.elements.operation, (operations[form.elements.instance.value] ?? []).map(({ name }) => name));
  showOperation(form);
}

function showOperation(form) {
  const operation = chosen(form);
  if (!operation) return;
  const repeat = operation.idempotent ? "may be repeated" : "not to be repeated";
  form.querySelector(".summary").textContent = `${operation.summary}; confirmed up to "${operation.delivery}"; ${repeat}.`;
  const argument = operation.argument && element("label", {}, `${operation.argument} (part of the subject)`,
    element("input", { name: "argument", required: true, autocomplete: "off" }));
  form.querySelector(".fields").replaceChildren(...[argument, ...fields(operation.schema)].filter(Boolean));
  const levels = LEVELS.slice(0, LEVELS.indexOf(operation.delivery) + 1);
  form.elements.wait.replaceChildren(
    element("option", { value: "" }, "the most that is offered"),
    ...levels.map((level) => element("option", { value: level }, level)));
}

async function send(form, replies) {
  const operation = chosen(form);
  const [instance, wait, timeout] = ["instance", "wait", "timeout"].map((name) => form.elements[name].value.trim());
  const name = operation.argument ? `${operation.name}.${form.elements.argument.value}` : operation.name;
  const shown = element("article", { class: "card" },
    element("header", {}, element("h2", {}, `${instance}: ${name}`), element("time", {}, clock())));
  replies.prepend(shown);
  try {
    const body = value(form.querySelector(".fields"), operation.schema);
    const response = await request("command", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ instance, operation: name, body, wait: wait || null, timeout: timeout || null, stream: form.elements.stream.checked }),
    });
    if (!response.ok) throw new Error((await response.text()).trim());
    await read(response, (_, reply) => shown.append(shownReply(reply)));
  } catch (error) {
    shown.append(element("p", { class: "error" }, error.message));
  }
}

function shownReply(reply) {
  const good = ["part", ...LEVELS].includes(reply.status);
  return element("div", {},
    element("span", { class: `chip ${good ? "good" : "bad"}` }, reply.status),
    element("pre", {}, JSON.stringify(reply.error ?? reply.data ?? {}, null, 2)));
}
