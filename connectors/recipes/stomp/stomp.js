/// <reference path="./pontoon.d.ts" />
// STOMP 1.2: https://stomp.github.io/stomp-specification-1.2.html

const ESCAPES = { "\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c" };
const UNESCAPES = { "\\\\": "\\", "\\r": "\r", "\\n": "\n", "\\c": ":" };
const escaped = (text) => String(text).replace(/[\\\r\n:]/g, (char) => ESCAPES[char]);
const unescaped = (text) =>
  text.replace(/\\(.|$)/g, (sequence) => {
    if (!(sequence in UNESCAPES)) throw new Error(`${sequence} is not an escape of STOMP`);
    return UNESCAPES[sequence];
  });

// The headers of CONNECT and CONNECTED are not escaped.
const plain = (command) => command === "CONNECT" || command === "CONNECTED";

function frame(command, headers, body = "") {
  const lines = Object.entries(headers).map(
    ([name, value]) => `${name}:${plain(command) ? value : escaped(value)}`,
  );
  return `${[command, ...lines].join("\n")}\n\n${body}\0`;
}

function read(text) {
  const start = text.replace(/^[\r\n]+/, "");
  const end = /\r?\n\r?\n/.exec(start);
  if (!end) throw new Error("the frame has no end of its headers");
  const [command, ...lines] = start.slice(0, end.index).split(/\r?\n/);
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1);
    // Of a header that is repeated, the first counts.
    headers[line.slice(0, colon)] ??= plain(command) ? value : unescaped(value);
  }
  const rest = start.slice(end.index + end[0].length);
  if (headers["content-length"] !== undefined) {
    const bytes = new TextEncoder().encode(rest).subarray(0, Number(headers["content-length"]));
    return { command, headers, body: new TextDecoder().decode(bytes) };
  }
  return { command, headers, body: rest.slice(0, rest.indexOf("\0")) };
}

let connected = false;
let every = 0;
let last = 0;

/** @type {pontoon.Connector} */
export default {
  operations: {
    "message.send": {
      summary: "Sends a text to a destination (channel)",
      body: {
        type: "object",
        properties: { channel: { type: "string", minLength: 1 }, text: { type: "string" } },
        required: ["channel", "text"],
        additionalProperties: false,
      },
      delivery: "acked",
    },
  },

  open(out) {
    const { login, host, heartbeat } = settings;
    const headers = { "accept-version": "1.2", host, "heart-beat": `${heartbeat},${heartbeat}`, login };
    out.send(frame("CONNECT", { ...headers, passcode: secrets.passcode }));
  },

  decode(message, out) {
    const text = message.text ?? new TextDecoder().decode(message.bytes);
    // An end of a line is a heartbeat.
    if (/^[\r\n]+$/.test(text)) return out.ignore();
    const { command, headers, body } = read(text);
    switch (command) {
      case "CONNECTED": {
        const [, wanted] = (headers["heart-beat"] ?? "0,0").split(",").map(Number);
        every = wanted && settings.heartbeat && Math.max(wanted, settings.heartbeat);
        if (every) out.wake(every);
        settings.subscribe.forEach((destination, id) =>
          out.send(frame("SUBSCRIBE", { id, destination, ack: "client-individual" })),
        );
        connected = true;
        return out.ready();
      }
      case "MESSAGE":
        return out.publish({
          type: "message.created",
          channel: headers.destination,
          message: { id: headers["message-id"], text: body, metadata: headers },
          stored: headers.ack,
        });
      case "RECEIPT": {
        const caller = out.answered(headers["receipt-id"]);
        return caller ? out.reply(caller, { receipt: headers["receipt-id"] }) : out.ignore();
      }
      case "ERROR": {
        const reason = [headers.message, body.trim()].filter(Boolean).join(": ");
        const caller = out.answered(headers["receipt-id"]);
        if (caller) out.fail(caller, reason);
        out.publish({ type: "error.raised", error: { message: reason } });
        // The broker ends the connection. What it refuses before it has confirmed the sign-in is that.
        return connected ? out.close(reason) : out.refused(reason);
      }
    }
  },

  // The broker sends a message again that is not acknowledged.
  stored(ack, out) {
    out.send(frame("ACK", { id: ack }));
  },

  encode(command, out) {
    const { channel, text } = command.body;
    const receipt = `r-${++last}`;
    const length = new TextEncoder().encode(text).length;
    const headers = { destination: channel, receipt, "content-type": "text/plain", "content-length": length };
    out.expect(receipt, command);
    out.send(frame("SEND", headers, text), command);
  },

  tick(out) {
    out.send("\n");
    out.wake(every);
  },
};
