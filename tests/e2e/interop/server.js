// The reference Socket.IO server under a test's orders. It carries them out, and reports what it sees.
//
// Started with one JSON object of options, it prints `{"port":…}` once it listens. Then it takes orders, one JSON
// object a line, on stdin, and reports what it sees, likewise, on stdout. It ends when stdin does, so it outlives no
// test. Binary data stands in both as `{"$base64":"…"}`.
//
//   options   port, path, namespaces, token (what `auth.token` must be), pingInterval, pingTimeout,
//             connectTimeout, maxHttpBufferSize, recovery (whether sessions can be resumed), greetings (how many
//             events `greeting` with {"n":0…} a socket is sent as soon as it is connected)
//   orders    {"do":"emit", name, args, room?}      an event, to every client or to a room
//             {"do":"packet", data}                 an event that the server's own `emit` would refuse to send
//             {"do":"ask", name, count, timeout, args?}   events with {"n":0…} before the arguments, each of which
//                                                   asks for an acknowledgement; reports {"saw":"answers", answers},
//                                                   each [n, what came] or [n, {error}]
//             {"do":"blast", name, count, first, rate?, room?}   events with {"n":first…}, so many a second
//             {"do":"answer", how}                  acknowledgements that are asked of the server: "echo" (at first),
//                                                   "never", or a number: so many together, the last one first
//             {"do":"disconnect", close}            ends the namespace, or the whole connection as well
//             {"do":"close"}                        ends the connection below the namespaces
//   Each takes a `namespace` (else the first), and reports {"saw":"done", order} with its `id` once it is carried out.
//   reports   connect, refused, joined, event, answers, alive (a sign of life that was asked for), disconnect, done
//
// An event `join` with a room, as text, puts the socket into that room.
'use strict';

const http = require('node:http');
const readline = require('node:readline');
const { Server } = require('socket.io');

const options = JSON.parse(process.argv[2] ?? '{}');
const namespaces = options.namespaces ?? ['/'];

const listener = http.createServer();
const io = new Server(listener, {
  path: options.path ?? '/socket.io/',
  serveClient: false,
  pingInterval: options.pingInterval ?? 25_000,
  pingTimeout: options.pingTimeout ?? 20_000,
  connectTimeout: options.connectTimeout ?? 45_000,
  maxHttpBufferSize: options.maxHttpBufferSize ?? 1_000_000,
  ...(options.recovery ? { connectionStateRecovery: { maxDisconnectionDuration: 120_000 } } : {}),
});

function report(what, fields) {
  process.stdout.write(JSON.stringify({ saw: what, ...fields }) + '\n');
}

// From orders to arguments, and from arguments to reports.
function binary(value) {
  if (Array.isArray(value)) return value.map(binary);
  if (value === null || typeof value !== 'object') return value;
  if (typeof value.$base64 === 'string') return Buffer.from(value.$base64, 'base64');
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, binary(field)]));
}

function printable(value) {
  if (Array.isArray(value)) return value.map(printable);
  if (value === null || typeof value !== 'object') return value;
  if (Buffer.isBuffer(value)) return { $base64: value.toString('base64') };
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, printable(field)]));
}

// Acknowledgements that are asked of us.
let how = 'echo';
let held = [];
function answer(args, acknowledge) {
  if (how === 'never') return;
  if (how === 'echo') return acknowledge(...args);
  held.push(() => acknowledge(...args));
  if (held.length >= how) {
    const all = held.reverse();
    held = [];
    all.forEach((now) => now());
  }
}

for (const name of namespaces) {
  const namespace = io.of(name);
  if (options.token !== undefined) {
    namespace.use((socket, next) => {
      if (socket.handshake.auth.token === options.token) return next();
      report('refused', { namespace: name, auth: socket.handshake.auth });
      next(Object.assign(new Error('the token is not ours'), { data: { code: 'NOT_OURS' } }));
    });
  }
  namespace.on('connection', (socket) => {
    const { auth, query, headers } = socket.handshake;
    const { id: sid, recovered } = socket;
    report('connect', { namespace: name, sid, recovered, rooms: [...socket.rooms], auth, query, headers });
    socket.onAny((event, ...args) => {
      const acknowledge = typeof args.at(-1) === 'function' ? args.pop() : null;
      report('event', { namespace: name, sid, name: event, args: printable(args), asks: acknowledge !== null });
      if (event === 'join') {
        socket.join(args[0]);
        report('joined', { namespace: name, sid, room: args[0] });
      }
      if (acknowledge) answer(args, acknowledge);
    });
    socket.conn.on('heartbeat', () => report('alive', { namespace: name, sid }));
    for (let n = 0; n < (options.greetings ?? 0); n++) socket.emit('greeting', { n });
    socket.on('disconnect', (reason) => report('disconnect', { namespace: name, sid, reason }));
  });
}

// As many a second as wanted by the clock, or as fast as the machine goes, with pauses to breathe.
async function blast({ name, count, first = 0, rate, room }, namespace) {
  const target = room === undefined ? namespace : namespace.to(room);
  const begun = performance.now();
  for (let sent = 0; sent < count; ) {
    const due = rate === undefined ? sent + 500 : Math.floor(((performance.now() - begun) / 1000) * rate);
    for (; sent < Math.min(due, count); sent++) target.emit(name, { n: first + sent });
    await new Promise((go) => (rate === undefined ? setImmediate(go) : setTimeout(go, 5)));
  }
}

async function ask({ name, count, timeout, args = [] }, namespace) {
  const [socket] = namespace.sockets.values();
  const asked = Array.from({ length: count }, (_, n) =>
    socket.timeout(timeout).emitWithAck(name, { n }, ...binary(args)).then(
      (got) => [n, printable(got)],
      (error) => [n, { error: error.message }],
    ),
  );
  report('answers', { answers: await Promise.all(asked) });
}

const orders = {
  emit: ({ name, args = [], room }, namespace) =>
    (room === undefined ? namespace : namespace.to(room)).emit(name, ...binary(args)),
  packet: ({ data }, namespace) => namespace.sockets.forEach((socket) => socket.packet({ type: 2, data })),
  ask,
  blast,
  answer: (order) => {
    how = order.how;
  },
  disconnect: ({ close }, namespace) => namespace.disconnectSockets(close),
  close: (_, namespace) => namespace.sockets.forEach((socket) => socket.conn.close()),
};

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', async (line) => {
  const order = JSON.parse(line);
  await orders[order.do](order, io.of(order.namespace ?? namespaces[0]));
  report('done', { order: order.id });
});
lines.on('close', () => process.exit(0));

listener.on('error', (error) => {
  console.error(`cannot listen: ${error.message}`);
  process.exit(1);
});
listener.listen(options.port ?? 0, '127.0.0.1', () => {
  process.stdout.write(JSON.stringify({ port: listener.address().port }) + '\n');
});
