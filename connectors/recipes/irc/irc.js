/// <reference path="./pontoon.d.ts" />
// IRC (RFC 1459, https://modern.ircdocs.horse/) with message tags (https://ircv3.net/specs/extensions/message-tags) over
// WebSocket, and what Twitch adds: https://dev.twitch.tv/docs/chat/irc/

const UNESCAPES = { "\\:": ";", "\\s": " ", "\\\\": "\\", "\\r": "\r", "\\n": "\n" };
const unescaped = (text) => text.replace(/\\(.?)/g, (sequence, char) => UNESCAPES[sequence] ?? char);

function read(line) {
  const found = /^(?:@(\S+) +)?(?::([^\s!]+)\S* +)?(\S+)(.*)$/.exec(line);
  if (!found) throw new Error(`this is not a line of IRC: ${line}`);
  const [, tags = "", nick, command, rest] = found;
  const [middle, ...trailing] = rest.split(" :");
  const params = middle.split(" ").filter(Boolean);
  if (trailing.length) params.push(trailing.join(" :"));
  const pairs = tags.split(";").filter(Boolean).map((tag) => {
    const [name, ...value] = tag.split("=");
    return [name, unescaped(value.join("="))];
  });
  return { tags: Object.fromEntries(pairs), nick, command, params };
}

// What greets and describes the server.
const GREETINGS = ["002", "003", "004", "005", "251", "255", "265", "266", "375", "372", "376", "422", "353", "366", "CAP", "PONG"];
const joining = (channel) => `JOIN ${channel}`;

function line(text, out, remembered) {
  const { tags, nick, command, params } = read(text);
  const [target, words] = params;
  switch (command) {
    case "PING":
      return out.send(`PONG :${params.join(" ")}`);
    case "001":
      for (const channel of new Set([...settings.channels, ...remembered])) out.send(joining(channel));
      remembered.forEach((channel) => out.rejoin(channel));
      return out.ready();
    case "PRIVMSG":
      return out.publish({
        type: "message.created",
        channel: target,
        message: { id: tags.id ?? tags.msgid, text: words },
        sender: { id: tags["user-id"] ?? nick, name: tags["display-name"] || nick },
        time: tags["tmi-sent-ts"] ? Number(tags["tmi-sent-ts"]) : tags.time,
        raw: text,
      });
    case "CLEARMSG":
      return out.publish({ type: "message.deleted", channel: target, message: { id: tags["target-msg-id"] }, raw: text });
    case "JOIN":
    case "PART": {
      const caller = nick === settings.nick.toLowerCase() ? out.answered(`${command} ${target}`) : undefined;
      if (caller) out.reply(caller, { channel: target });
      const status = command === "JOIN" ? "joined" : "left";
      return out.publish({ type: "presence.changed", channel: target, sender: { id: nick, name: nick }, status, raw: text });
    }
    case "NOTICE":
      // Before the greeting, Twitch refuses a token so.
      if (/^(Login |Improperly formatted auth)/.test(words)) return out.refused(words);
      return out.publish({ type: "error.raised", error: { code: tags["msg-id"], message: words }, raw: text });
    case "464":
      return out.refused(params.at(-1));
    case "433":
      return out.slow(params.at(-1));
    case "RECONNECT":
    case "ERROR":
      return out.close(params.at(-1) ?? "the server asks for a new connection");
  }
  if (GREETINGS.includes(command)) return out.ignore();
  out.publish({ type: "x-irc.received", channel: target, fields: { command, params, tags }, raw: text });
}

const channel = { type: "string", minLength: 2, maxLength: 64 };
let again = [];

/** @type {pontoon.Connector} */
export default {
  operations: {
    "message.send": {
      summary: "Sends a text to a channel",
      body: {
        type: "object",
        properties: { channel, text: { type: "string", minLength: 1, maxLength: 500 } },
        required: ["channel", "text"],
        additionalProperties: false,
      },
      delivery: "sent",
    },
    "channel.join": {
      summary: "Joins a channel, and joins it again after each break",
      body: { type: "object", properties: { channel }, required: ["channel"], additionalProperties: false },
      delivery: "acked",
      idempotent: true,
    },
    "channel.leave": {
      summary: "Leaves a channel",
      body: { type: "object", properties: { channel }, required: ["channel"], additionalProperties: false },
      delivery: "acked",
      idempotent: true,
    },
  },

  open(out, remembered) {
    again = remembered.map(({ key }) => key);
    const { nick, user, capabilities } = settings;
    if (capabilities?.length) out.send(`CAP REQ :${capabilities.join(" ")}`);
    if ("password" in secrets) out.send(`PASS ${secrets.password}`);
    out.send(`NICK ${nick}`);
    if (user) {
      out.send(`USER ${user} 0 * :${user}`);
      out.send("CAP END");
    }
  },

  decode(frame, out) {
    const text = frame.text ?? new TextDecoder().decode(frame.bytes);
    const lines = text.split(/[\r\n]+/).filter(Boolean);
    if (!lines.length) out.ignore();
    for (const each of lines) line(each, out, again);
  },

  encode(command, out) {
    const { operation, body } = command;
    const name = body.channel;
    // What a caller writes must not become a second line, or a second channel.
    if (!/^[#&][^\s,\0\x07]+$/.test(name)) return out.fail(command, "this is not a channel", 400);
    switch (operation) {
      case "message.send":
        if (/[\r\n\0]/.test(body.text)) return out.fail(command, "a text of IRC is one line", 400);
        return out.send(`PRIVMSG ${name} :${body.text}`, command);
      case "channel.join":
        out.remember(name, null, command);
        out.expect(joining(name), command);
        return out.send(joining(name), command);
      case "channel.leave":
        out.forget(name, command);
        out.expect(`PART ${name}`, command);
        return out.send(`PART ${name}`, command);
    }
  },
};
