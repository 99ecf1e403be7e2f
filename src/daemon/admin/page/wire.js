// The wire view of one instance: frames in both directions, without secrets.

import { clock, element, fill, indent, prepend, row } from "./dom.js";
import { follow } from "./stream.js";

/** How many frames are kept. */
const MOST = 500;

let watching = null;

/** Makes the controls work. */
export function start(section) {
  const form = section.querySelector("form");
  const list = section.querySelector(".list");
  const output = form.querySelector("output");
  form.elements.clear.addEventListener("click", () => list.replaceChildren());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.textContent = watching ? "Watch" : "Stop";
    if (watching) {
      watching.abort();
      watching = null;
      output.textContent = "stopped";
      return;
    }
    watching = new AbortController();
    const path = `wire/${encodeURIComponent(form.elements.instance.value)}`;
    follow(path, watching.signal, (name, data) => {
      prepend(list, SHOWN[name](data), MOST);
    }, (live, text) => { output.textContent = text; });
  });
}

/** The instances that can be watched. */
export function instances(section, names) {
  fill(section.querySelector("select"), names);
}

const SHOWN = {
  frame,
  connection: ({ time, link, direction, reason }) => note(`${clock(time)} ${link} ${direction} ${reason}`),
  lost: ({ count }) => note(`${count} frames came too fast to be shown`),
};

function note(text) {
  return element("p", { class: "soft" }, text);
}

function frame({ time, link, direction, bytes, frame: text }) {
  const arrow = direction === "received" ? "← received" : "→ sent";
  return row([
    element("time", {}, clock(time)),
    element("span", { class: "what" }, arrow),
    element("span", {}, link),
    element("span", { class: "soft" }, `${bytes} B`),
    element("span", { class: "text" }, text),
  ], () => indent(text));
}
