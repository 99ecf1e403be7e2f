/// <reference path="./pontoon.d.ts" />
// A feed of rooms: it wants a token, confirms it, and then sends messages; requests have an id that the answer repeats.

let last = 0;

/** @type {pontoon.Connector} */
export default {
  operations: {
    "message.send": {
      summary: "Sends a message to a room",
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
    out.send({ type: "auth", token: secrets.token });
  },

  decode(frame, out) {
    const message = frame.json;
    switch (message?.type) {
      case "welcome":
        for (const room of settings.channels) out.send({ type: "join", room });
        out.ready();
        break;
      case "denied":
        out.refused(message.reason);
        break;
      case "message":
        out.publish({
          type: "message.created",
          channel: message.room,
          message: { id: message.id, text: message.text },
          sender: { id: message.from },
        });
        break;
      case "done": {
        // A command whose caller has given up is not there any more.
        const command = out.answered(message.id);
        if (command && message.error) out.fail(command, message.error);
        else if (command) out.reply(command, { id: message.message });
        else out.ignore();
        break;
      }
      case "ping":
        out.send({ type: "pong" });
        break;
      // Any other frame is published as frame.unrecognised.
    }
  },

  encode(command, out) {
    const { channel, text } = command.body;
    const id = ++last;
    out.expect(id, command);
    out.send({ type: "send", id, room: channel, text }, command);
  },

  ended(end) {
    if (end.code === 4001) return "refused";
  },
};
