// What the scripts share: the job, and from a message to an event.
"use strict";
const fs = require("node:fs");
const { headers: newHeaders } = require("@nats-io/transport-node");

exports.job = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));

// Ends the script: the harness sees what is missing.
exports.fail = (error) => {
  console.error(error);
  process.exit(1);
};

// A function that gives each event of a channel its headers.
exports.headersOf = (job) => {
  const epoch = Date.now();
  const source = `urn:pontoon:${job.source.replace(".", ":")}`;
  let number = 0;
  const values = {
    "Content-Type": () => "application/json",
    "ce-datacontenttype": () => "application/json",
    "ce-specversion": () => "1.0",
    "ce-source": () => source,
    "ce-type": () => job.ce_type,
    "ce-link": () => "main",
    "ce-upstreamevent": () => job.upstream,
    "ce-subject": (channel) => channel,
    "ce-time": () => new Date().toISOString(),
    "ce-id": () => `${epoch}-${number}`,
    "ce-sequence": () => `${String(epoch).padStart(15, "0")}-${String(number).padStart(12, "0")}`,
    "Nats-Msg-Id": () => `${job.source}:${epoch}-${number}`,
    "Nats-Expected-Last-Sequence": () => String(number - 1),
  };
  for (const name of job.headers) {
    if (!values[name]) exports.fail(`the script does not know the header ${name}: teach it that`);
  }
  const used = job.headers.map((name) => [name, values[name]]);
  return (channel) => {
    number += 1;
    const headers = newHeaders();
    for (const [name, value] of used) headers.set(name, value(channel));
    return headers;
  };
};

// A channel as a token of a subject.
exports.token = (channel) =>
  /^[A-Za-z0-9_-]*$/.test(channel)
    ? channel
    : [...Buffer.from(channel)]
        .map((byte) => {
          const character = String.fromCharCode(byte);
          return /[A-Za-z0-9_-]/.test(character) ? character : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
        })
        .join("");
