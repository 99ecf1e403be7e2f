// Reads messages, one JSON document of headers and body on a line, with the SDK of CloudEvents, and prints the events. In
// binary mode attributes are percent-encoded in headers (HTTP protocol binding, 3.1.3.2), which the SDK leaves as they are.
"use strict";

const { HTTP } = require("cloudevents");
const lines = require("node:readline").createInterface({ input: process.stdin });

lines.on("line", (line) => {
  const { headers, body } = JSON.parse(line);
  const decoded = Object.entries(headers).map(([name, value]) => {
    const lower = name.toLowerCase();
    return [lower, lower.startsWith("ce-") ? decodeURIComponent(value) : value];
  });
  const event = HTTP.toEvent({ headers: Object.fromEntries(decoded), body });
  event.validate();
  console.log(JSON.stringify(event));
});
