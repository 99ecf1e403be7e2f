// The feed of events, with a filter and the whole event on a click.

import { clock, element, indent, parsed, prepend, row } from "./dom.js";

/** How many events are kept. */
const MOST = 500;

let paused = false;
let missed = 0;

/** Makes the controls work. */
export function start(section) {
  const form = section.querySelector("form");
  const list = section.querySelector(".list");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.filter.addEventListener("input", () => [...list.children].forEach((made) => hide(section, made)));
  form.elements.clear.addEventListener("click", () => list.replaceChildren());
  form.elements.pause.addEventListener("click", () => {
    paused = !paused;
    missed = 0;
    form.elements.pause.setAttribute("aria-pressed", paused);
    note(section);
  });
}

/** Adds an event. */
export function add(section, event) {
  if (paused) {
    missed += 1;
    note(section);
    return;
  }
  const { type, instance, kind, scope, time, subject, body } = event;
  const made = row([
    element("time", {}, clock(time)),
    element("span", {}, `${type}.${instance}`),
    element("span", { class: kind.startsWith("gap.") || kind.startsWith("error.") ? "what bad" : "what" }, kind),
    element("span", {}, scope === "_" ? "" : scope),
    element("span", { class: "text" }, summary(body)),
  ], () => `${subject}\n${indent(body)}`);
  hide(section, made);
  prepend(section.querySelector(".list"), made, MOST);
}

/** Notes events that came faster than they were read. */
export function lost(section, count) {
  prepend(section.querySelector(".list"), element("p", { class: "soft" }, `${count} events came too fast to be shown`), MOST);
}

function note(section) {
  section.querySelector("output").textContent = paused ? `${missed} not shown` : "";
}

function hide(section, made) {
  const wanted = section.querySelector("form").elements.filter.value.trim().toLowerCase();
  made.hidden = wanted !== "" && !(made.querySelector("summary") ?? made).textContent.toLowerCase().includes(wanted);
}

/** Sender and text if the event has them, else its fields. */
function summary(json) {
  const document = parsed(json);
  // In structured mode the fields are the document's data.
  const body = document?.specversion ? document.data : document;
  if (typeof body !== "object" || body === null) return json;
  const sender = body.sender?.name ?? body.sender?.id;
  const text = body.message?.text ?? body.delta ?? body.error?.message ?? body.text ?? body.reason;
  if (text !== undefined) return sender ? `${sender}: ${text}` : text;
  const { raw, ...fields } = body;
  return JSON.stringify(Object.keys(fields).length ? fields : raw ?? {});
}
