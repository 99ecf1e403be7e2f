// Shows, with the reference client, that the server in this folder carries out orders: what fails between it and the
// daemon is then not the server's. Prints "ok" and ends, or fails.
'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const path = require('node:path');
const readline = require('node:readline');
const { io } = require('socket.io-client');

const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

async function main() {
  const options = { namespaces: ['/', '/chat'], token: 't', recovery: true };
  const server = spawn(process.execPath, [path.join(__dirname, 'server.js'), JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  process.on('exit', () => server.kill('SIGKILL'));
  const reports = [];
  let wake = () => {};
  readline.createInterface({ input: server.stdout }).on('line', (line) => {
    reports.push(JSON.parse(line));
    wake();
  });
  // The next report that is so; what comes before it is passed over.
  const saw = async (wanted) => {
    for (;;) {
      while (reports.length > 0) {
        const report = reports.shift();
        if (wanted(report)) return report;
      }
      await new Promise((now) => (wake = now));
    }
  };
  let orders = 0;
  const order = async (what) => {
    server.stdin.write(JSON.stringify({ id: ++orders, ...what }) + '\n');
    const mine = orders;
    if (what.do !== 'ask') await saw((report) => report.saw === 'done' && report.order === mine);
  };

  const { port } = await saw((report) => report.port);
  const connect = (token) => {
    const auth = { token };
    return io(`http://127.0.0.1:${port}/chat`, { transports: ['websocket'], auth, forceNew: true });
  };

  const stranger = connect('wrong');
  const [refusal] = await once(stranger, 'connect_error');
  assert.deepEqual([refusal.message, refusal.data], ['the token is not ours', { code: 'NOT_OURS' }]);
  stranger.close();

  const client = connect('t');
  await once(client, 'connect');
  const received = [];
  client.onAny((...all) => received.push(all));
  assert.equal((await saw((report) => report.saw === 'connect')).recovered, false);

  assert.deepEqual(await client.emitWithAck('file', { a: every }, every), [{ a: every }, every][0]);
  const seen = await saw((report) => report.saw === 'event');
  assert.deepEqual(seen.args[1], { $base64: every.toString('base64') });

  await client.emitWithAck('join', 'room');
  await saw((report) => report.saw === 'joined' && report.room === 'room');
  await order({ do: 'blast', namespace: '/chat', name: 'tick', room: 'room', count: 1000 });
  await order({ do: 'emit', namespace: '/chat', name: 'no arguments' });
  const last = once(client, 'last');
  await order({ do: 'packet', namespace: '/chat', data: ['last', 0] });
  await last;
  assert.deepEqual(received.slice(0, 1000).map(([, { n }]) => n), Array.from({ length: 1000 }, (_, n) => n));
  assert.equal(received[1000][0], 'no arguments');

  client.on('question', ({ n }, acknowledge) => acknowledge(n * 2));
  await order({ do: 'ask', namespace: '/chat', name: 'question', count: 3, timeout: 10_000 });
  const { answers } = await saw((report) => report.saw === 'answers');
  assert.deepEqual(answers, [[0, 0], [1, 2], [2, 4]]);

  await order({ do: 'answer', how: 5 });
  const calls = await Promise.all(Array.from({ length: 5 }, (_, n) => client.emitWithAck('call', n)));
  assert.deepEqual(calls, [0, 1, 2, 3, 4]);

  // What is emitted while the client is away is emitted again.
  received.length = 0;
  const again = once(client, 'connect');
  client.io.engine.close();
  await saw((report) => report.saw === 'disconnect');
  await order({ do: 'emit', namespace: '/chat', name: 'missed', room: 'room' });
  await again;
  assert.equal(client.recovered, true);
  assert.equal(received[0][0], 'missed');

  await order({ do: 'disconnect', namespace: '/chat', close: false });
  client.close();
  server.stdin.end();
  await once(server, 'exit');
}

const limit = setTimeout(() => {
  console.error('the self-test takes too long');
  process.exit(1);
}, 60_000);
limit.unref();
main().then(
  () => {
    console.log('ok');
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
