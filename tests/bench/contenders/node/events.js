// Publishes what a WebSocket or a Socket.IO server sends. What is not confirmed yet is bounded: the socket is paused.
"use strict";
const { connect } = require("@nats-io/transport-node");
const { jetstream } = require("@nats-io/jetstream");
const { job, fail, headersOf, token } = require("./common.js");

// How many events go to the server between two round trips, where nothing else confirms them.
const BATCH = 1024;
const MOST = job.jetstream ? job.in_flight : 8 * BATCH;

async function main() {
  const nats = await connect({ servers: job.nats });
  const stream = job.jetstream ? jetstream(nats) : undefined;
  const headers = headersOf(job);
  let socket = { pause() {}, resume() {} };
  let waiting = 0;
  let batch = 0;
  let paused = false;

  const confirmed = (count) => {
    waiting -= count;
    if (paused && waiting <= MOST / 2) {
      paused = false;
      socket.resume();
    }
  };
  const publish = (chat, text) => {
    if (chat.type !== "message") return;
    const subject = job.subject + token(chat.room);
    const body = `{"channel":${JSON.stringify(chat.room)},"raw":${text}}`;
    waiting += 1;
    if (stream) {
      stream.publish(subject, body, { headers: headers(chat.room) }).then(() => confirmed(1), fail);
    } else {
      nats.publish(subject, body, { headers: headers(chat.room) });
      batch += 1;
      if (batch === BATCH) {
        batch = 0;
        nats.flush().then(() => confirmed(BATCH), fail);
      }
    }
    if (!paused && waiting >= MOST) {
      paused = true;
      socket.pause();
    }
  };

  if (job.url.startsWith("http")) {
    const { io } = require("socket.io-client");
    const client = io(job.url, { transports: ["websocket"], reconnection: false, forceNew: true });
    client.on("connect", () => {
      // The client has no pause; the WebSocket below it has.
      const below = client.io.engine.transport.ws;
      if (typeof below.pause === "function") socket = below;
    });
    client.on("message", (chat) => publish(chat, JSON.stringify(chat)));
    client.on("disconnect", fail);
  } else {
    const WebSocket = require("ws");
    socket = new WebSocket(job.url, { perMessageDeflate: false });
    socket.on("message", (data) => {
      const text = data.toString();
      publish(JSON.parse(text), text);
    });
    socket.on("error", fail);
    socket.on("close", () => fail("the service is gone"));
  }
}

main().catch(fail);
