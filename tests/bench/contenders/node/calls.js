// Carries out requests on NATS over a WebSocket, and replies with the answers.
"use strict";
const { connect, headers } = require("@nats-io/transport-node");
const WebSocket = require("ws");
const { job, fail } = require("./common.js");

async function main() {
  const nats = await connect({ servers: job.nats });
  const waiting = new Map();
  let next = 0;
  let socket;
  nats.subscribe(job.subject, {
    callback: (error, request) => {
      if (error) return fail(error);
      next += 1;
      waiting.set(next, request);
      socket.send(`${request.string().slice(0, -1)},"id":${next}}`);
    },
  });
  // Once the socket is open, requests are made.
  await nats.flush();
  socket = new WebSocket(job.url, { perMessageDeflate: false });
  socket.on("message", (data) => {
    const { id, result } = JSON.parse(data.toString());
    const request = waiting.get(id);
    if (!request) return;
    waiting.delete(id);
    const status = headers();
    status.set("Pontoon-Status", "response");
    const body = JSON.stringify({ status: "response", id: String(id), data: result });
    request.respond(body, { headers: status });
  });
  socket.on("error", fail);
  socket.on("close", () => fail("the service is gone"));
}

main().catch(fail);
