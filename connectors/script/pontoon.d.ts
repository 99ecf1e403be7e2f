/**
 * What a script of Pontoon has, for editors. Put this file beside the script, and begin the script with
 * `/// <reference path="./pontoon.d.ts" />`. `pontoon types` prints it.
 */
declare namespace pontoon {
  type Json = null | boolean | number | string | Json[] | { [name: string]: Json | undefined };

  /** What a script exports by `export default { … }`, with the type of it in a comment before. Each function returns at once. */
  interface Connector {
    /** What callers can ask for, by the name of the operation, such as "message.send". */
    operations?: { [name: string]: Operation };
    /**
     * The connection is made: sign in, join again what is remembered, and call `out.ready()` now or later. Without this
     * function commands flow at once.
     */
    open?(out: Out, remembered: { key: string; data: Json }[]): void;
    /** A frame was received. One for which nothing of `out` is called is published as frame.unrecognised. */
    decode(frame: Frame & Message, out: Out): void;
    /** A caller asks for an operation: send a frame for it, or fail it. */
    encode?(command: Command, out: Out): void;
    /** The time of `out.wake` has come. */
    tick?(out: Out): void;
    /** NATS has confirmed the event that was published with this as `stored`. */
    stored?(id: Json, out: Out): void;
    /** The answer to `out.ask`, once: its data, or why there is none. `context` is what was given to `out.ask`. */
    asked?(answer: { data?: any; error?: { code: number; message: string } }, context: any, out: Out): void;
    /** The command was replied to without the script: its time ran out, or it could not be sent. `answered` forgets it. */
    abandoned?(command: { id: number }, out: Out): void;
    /** The connection has ended. "refused": the credentials are wrong; "slow": it is made again slowly. */
    ended?(end: { code: number | null; reason: string; orderly: boolean }, out: Out): "refused" | "slow" | void;
  }

  interface Operation {
    /** One sentence. */
    summary: string;
    /**
     * JSON Schema of the body, which is checked before `encode`. Understood are type, enum, const, properties, required,
     * additionalProperties, items, minLength, maxLength, minimum, maximum and maxItems.
     */
    body?: object | boolean;
    /** How much a reply can confirm: written to the socket, confirmed by the service, answered by it. */
    delivery: "sent" | "acked" | "response";
    /** Whether doing it twice is the same as doing it once. */
    idempotent?: boolean;
    /** The name of what may follow the operation in the subject. */
    argument?: string;
    /** How long a caller waits that sets no timeout, such as "10s". */
    timeout?: string;
  }

  /** A WebSocket message. One that `codec` and `inflate` decode is a text message. */
  interface Frame {
    /** A text message. */
    readonly text?: string;
    /** A binary message. */
    readonly bytes?: Uint8Array;
    /** Its content if it is JSON, else undefined. */
    readonly json: any;
  }

  /** A Socket.IO message: an event, or an acknowledgement if there is no name. */
  interface Message {
    readonly event?: string;
    readonly args?: any[];
    /** The number under which an acknowledgement is asked for, or which it answers. */
    readonly ack?: number | null;
    /** As base64. */
    readonly attachments?: string[];
  }

  interface Command {
    readonly id: number;
    readonly operation: string;
    readonly argument: string | null;
    readonly body: any;
    /** The caller's `Pontoon-*` headers. */
    readonly headers: { [name: string]: string };
    readonly delivery: "sent" | "acked" | "response";
    /** Whether the caller wants the parts of an answer. */
    readonly stream: boolean;
  }

  /** An event. The README of Pontoon lists the types, under "Subjects". */
  interface Event {
    /** "message.created" and others, or one that you name: "x-trade.executed". */
    type: string;
    /** The conversation; becomes the last token of the subject, unless `scope` does. */
    channel?: string | number;
    scope?: string | number;
    /** The service's own name for it. */
    upstream?: string;
    /** The service's own time: RFC 3339, or milliseconds since 1970. */
    time?: string | number;
    /** What makes it the same happening as another that is sent twice. */
    identity?: string;
    /** `stored` is called with this once NATS has confirmed the event. */
    stored?: Json;
    traceparent?: string;
    /** The payload; of what is published in `decode`, the frame. */
    raw?: Json;
    message?: string | { id?: string | number; text?: string; created_at?: string | number; attachments?: Json; metadata?: Json };
    sender?: { id?: string | number; name?: string; kind?: "user" | "agent" | "self" };
    /** Of message.delta: the new part. */
    delta?: string;
    server?: string;
    title?: string;
    participants?: string[];
    status?: string;
    level?: string;
    level_number?: number;
    text?: string;
    resource?: string;
    action?: string;
    uid?: string;
    data?: Json;
    code?: number;
    reason?: string;
    error?: { code?: string | number; message?: string; details?: Json };
    name?: string;
    /** The fields of a type x-…. */
    fields?: { [name: string]: Json };
  }

  /** What is done, in order, once the function returns; nothing of it if the function throws. */
  interface Out {
    /**
     * Sends a frame: a string or bytes as they are, anything else as JSON (or in the `codec`); over Socket.IO { event, args, ack? } or
     * { ack, args }. With a command, the frame carries it out; the first frame that `encode` sends does so without it, too.
     */
    send(frame: string | Uint8Array | Json, command?: Command): void;
    publish(event: Event): void;
    /** The reply to a command: what the service has confirmed or answered. */
    reply(command: Command, data?: Json): void;
    /** One part of an answer, before the reply. */
    part(command: Command, data: Json): void;
    /** The command was certainly not done. 400, 403, 404, 409, 413, 429, 502 (as if left out) or 503. */
    fail(command: Command, message: string, code?: number): void;
    /** The command was sent, and it is not known what became of it. */
    unknown(command: Command, message: string): void;
    /** Keeps a command under the key that its answer repeats. */
    expect(key: unknown, command: Command): void;
    /** The command of this key, once; undefined where its caller has given up. */
    answered(key: unknown): Command | undefined;
    /** Keeps a value for the next connections: a room that was joined, a session to resume. */
    remember(key: string, data?: Json, command?: Command): void;
    forget(key: string, command?: Command): void;
    /**
     * A frame is sent that asks the service again for what was remembered under this key: a room, a subscription. Call it before
     * `ready()`, or in the same function: then `gap.detected` lists it in `rejoins`.
     */
    rejoin(key: string): void;
    /** Takes back what was remembered and forgotten for a command. */
    undo(command: Command): void;
    /**
     * Sends a request over NATS, to a subject that the setting `ask` lists; `asked` gets the answer. It has ten seconds, and
     * request and answer 1 MiB. 64 may be under way.
     */
    ask(subject: string, body?: Json, context?: unknown): void;
    /** Commands may flow from now on. */
    ready(): void;
    /** Calls `tick` after this time, or earlier if that was asked for. */
    wake(milliseconds: number): void;
    /** The frame needs nothing. */
    ignore(): void;
    /** Ends the connection, which is made again: at once, slowly as the credentials are wrong, or slowly. */
    close(reason: string): void;
    refused(reason: string): void;
    slow(reason: string): void;
    /** Logs at `debug`. */
    log(...values: unknown[]): void;
  }

  type Algorithm = "sha1" | "sha256" | "sha384" | "sha512";
}

/** The setting `settings` of the instance. */
declare const settings: any;
/** The instance's secrets, by name. One that the settings do not have is an error; `"name" in secrets` asks for it. */
declare const secrets: { readonly [name: string]: string };
declare function hash(algorithm: pontoon.Algorithm, data: string | Uint8Array): Uint8Array;
declare function hmac(algorithm: pontoon.Algorithm, key: string | Uint8Array, data: string | Uint8Array): Uint8Array;
