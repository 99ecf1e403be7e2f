// What the scripts share: the job, and from a message to an event.
"use strict";
const fs = require("node:fs");
const { MsgHdrsImpl } = require("@nats-io/transport-node");

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
  // The time as text, made once for each millisecond.
  let millisecond = 0;
  let time = "";
  const now = () => {
    const at = Date.now();
    if (at !== millisecond) {
      millisecond = at;
      time = new Date(at).toISOString();
    }
    return time;
  };
  const values = {
    "Content-Type": () => "application/json",
    "ce-datacontenttype": () => "application/json",
    "ce-specversion": () => "1.0",
    "ce-source": () => source,
    "ce-type": () => job.ce_type,
    "ce-link": () => "main",
    "ce-upstreamevent": () => job.upstream,
    "ce-subject": (channel) => channel,
    "ce-time": now,
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
    const record = {};
    for (const [name, value] of used) record[name] = value(channel);
    // A third faster than to set each.
    return MsgHdrsImpl.fromRecord(record);
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
