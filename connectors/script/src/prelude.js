// What a script finds beside the language, and how the engine calls it. `native` has the functions of src/codecs.rs and
// src/engine.rs; `given` has the settings and the secrets.
(native, given) => {
  "use strict";
  const { parse, stringify } = JSON;
  const { act, now } = native;

  // No clock but the one given.
  const System = Date;
  const Clock = function Date(...args) {
    return Reflect.construct(System, args.length ? args : [now()], new.target ?? Clock);
  };
  Clock.prototype = System.prototype;
  Clock.prototype.constructor = Clock;
  Object.assign(Clock, { now, parse: System.parse, UTC: System.UTC });

  // Those of the platform that people know, for UTF-8 only.
  class TextEncoder {
    encode(text = "") {
      return native.utf8(String(text).toWellFormed());
    }
  }
  class TextDecoder {
    decode(bytes = new Uint8Array()) {
      return native.text(bytes.toBase64());
    }
  }
  const encoder = new TextEncoder();
  const base64 = (data) => {
    const bytes = typeof data === "string" ? encoder.encode(data) : data;
    if (!(bytes instanceof Uint8Array)) throw new TypeError("this is neither a text nor a Uint8Array");
    return bytes.toBase64();
  };
  Object.assign(globalThis, {
    Date: Clock,
    TextEncoder,
    TextDecoder,
    hash: (algorithm, data) => native.hash(String(algorithm), base64(data)),
    hmac: (algorithm, key, data) => native.hmac(String(algorithm), base64(key), base64(data)),
    settings: given.settings,
    // A misspelt name must not pass for a secret that is left out.
    secrets: new Proxy(given.secrets, {
      get(known, name) {
        if (name in known || typeof name === "symbol" || name === "toJSON") return known[name];
        throw new TypeError(
          `the settings have no secret "${name}"; known are ${Object.keys(known).join(", ") || "none"}; write "${name}" in secrets to ask for one that may be left out`,
        );
      },
    }),
  });

  // Commands whose answers are expected, by the key that the answer repeats, and what `stored` is called with.
  const expected = new Map();
  const stored = new Map();
  const asked = new Map();
  let last = 0;

  const NONE = -1;
  const id = (command) => {
    if (typeof command?.id !== "number") throw new TypeError("this is not a command, as encode gets it");
    return command.id;
  };
  const maybe = (command) => (command === undefined ? NONE : id(command));
  const json = (value) => {
    const text = stringify(value);
    if (text === undefined) throw new TypeError("this has no form in JSON");
    return text;
  };
  const out = Object.freeze({
    send(frame, command) {
      if (typeof frame === "string") act("text", frame.toWellFormed(), maybe(command));
      else if (frame instanceof Uint8Array) act("binary", frame.toBase64(), maybe(command));
      else act("json", json(frame), maybe(command));
    },
    publish(event) {
      let known = event;
      if (event?.stored !== undefined) {
        stored.set(++last, event.stored);
        known = { ...event, stored: last };
      }
      act("publish", json(known), NONE);
    },
    reply(command, data = null) {
      if (command?.delivery === "sent") throw new TypeError(`${command.operation} promises "sent": there is no reply`);
      act(command?.delivery === "acked" ? "acked" : "response", json(data), id(command));
    },
    part: (command, data) => act("part", json(data), id(command)),
    fail: (command, message, code = 502) => act("fail", json([String(message), code]), id(command)),
    unknown: (command, message) => act("unknown", String(message), id(command)),
    expect: (key, command) => void expected.set(key, (id(command), command)),
    answered(key) {
      const command = expected.get(key);
      expected.delete(key);
      return command;
    },
    remember: (key, data = null, command) => act("remember", json([String(key), data]), maybe(command)),
    forget: (key, command) => act("forget", String(key), maybe(command)),
    rejoin: (key) => act("rejoin", String(key), NONE),
    undo: (command) => act("undo", "", id(command)),
    ask(subject, body = null, context = null) {
      if (!connector.asked) throw new TypeError("the script has no function asked(answer, context, out), which gets the answer");
      const text = json([String(subject), body]);
      asked.set(++last, context);
      act("ask", text, last);
    },
    ready: () => act("ready", "", NONE),
    wake: (milliseconds) => act("wake", String(Number(milliseconds)), NONE),
    close: (reason) => act("close", String(reason), NONE),
    refused: (reason) => act("refused", String(reason), NONE),
    slow: (reason) => act("slow", String(reason), NONE),
    ignore: () => act("ignore", "", NONE),
    log: (...values) =>
      act("log", values.map((value) => (typeof value === "string" ? value : stringify(value))).join(" "), NONE),
  });

  class Frame {
    #json;
    #read = false;
    constructor(content) {
      if (typeof content === "string") this.text = content;
      else this.bytes = content;
    }
    get json() {
      if (!this.#read) {
        this.#read = true;
        try {
          this.#json = parse(this.text ?? new TextDecoder().decode(this.bytes));
        } catch {}
      }
      return this.#json;
    }
  }

  const FUNCTIONS = ["open", "decode", "encode", "tick", "stored", "asked", "abandoned", "ended"];
  let connector;
  const run = (name, ...args) => {
    const result = connector[name](...args);
    if (typeof result?.then === "function") throw new TypeError(`${name} returns a promise; its result is wanted at once`);
    return result;
  };
  return {
    // Checks what the script exports. Returns its operations and the names of its functions.
    use(exported) {
      if (typeof exported !== "object" || exported === null)
        throw new TypeError("the script exports no connector; write export default { decode(frame, out) { … } }");
      for (const name of Object.keys(exported)) {
        if (name === "operations") continue;
        if (!FUNCTIONS.includes(name))
          throw new TypeError(`"${name}" is not a function of a connector; those are ${FUNCTIONS.join(", ")}, and operations`);
        if (typeof exported[name] !== "function") throw new TypeError(`${name} is not a function`);
      }
      if (!exported.decode) throw new TypeError("the script has no function decode(frame, out)");
      if (exported.operations && !exported.encode)
        throw new TypeError("the script has operations, and no function encode(command, out)");
      connector = exported;
      return json({
        operations: exported.operations ?? {},
        functions: FUNCTIONS.filter((name) => exported[name]),
      });
    },
    open: (remembered) => void run("open", out, parse(remembered)),
    frame: (content) => void run("decode", new Frame(content), out),
    decode: (frame) => void run("decode", parse(frame), out),
    encode: (command) => void run("encode", parse(command), out),
    tick: () => void run("tick", out),
    stored(number) {
      const value = stored.get(number);
      stored.delete(number);
      if (connector.stored) run("stored", value, out);
    },
    asked(number, answer) {
      const context = asked.get(number);
      asked.delete(number);
      run("asked", parse(answer), context, out);
    },
    abandoned(number) {
      for (const [key, command] of expected) {
        if (command.id === number) expected.delete(key);
      }
      if (connector.abandoned) run("abandoned", { id: number }, out);
    },
    ended(end) {
      const kind = run("ended", parse(end), out);
      return typeof kind === "string" ? kind : "";
    },
  };
};
