// Drives a running node with the Node.js examples and grpc-js, over mutual TLS. Run by start_node.py, which sets TRADELANE_TEST_NODE;
// TRADELANE_PROTO is where proto/ is.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect as connectTcp, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import grpc from '@grpc/grpc-js';
import { PositionFile, follow } from './customs_client.js';
import { discharged, publish, publishStream } from './port_system.js';
import { Problem, connect } from './tradelane_client.js';

const NODE = JSON.parse(readFileSync(process.env.TRADELANE_TEST_NODE, 'utf8'));
const CONTAINERS = ['MSKU9070323', 'CSQU3054383', 'APZU4812090', 'FCIU9908030'];
const CALL_TIMEOUT_MS = 10_000;

const clients = [];
const clientOf = (name, address = NODE.address) => {
  const { cert, key } = NODE.participants[name];
  const client = connect(address, { ca: NODE.ca, cert, key }, process.env.TRADELANE_PROTO);
  clients.push(client);
  return client;
};
const voyage = () => `V${randomUUID().replaceAll('-', '').slice(0, 10).toUpperCase()}`;
const moves = (count, on) =>
  Array.from({ length: count }, (_, i) => discharged(NODE.participants.port.id, CONTAINERS[i % 4], on, 'MSK'));
const ofVoyage = (value) => ({ subjects: [{ kind: 'IDENTIFIER_KIND_VOYAGE', value }] });

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + CALL_TIMEOUT_MS);
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** Everything that matches, oldest first, page by page. */
async function listed(client, filter) {
  const ids = [];
  let pageToken = '';
  do {
    const request = { filters: [filter], order: 'LIST_ORDER_OLDEST_FIRST', page_size: 100, page_token: pageToken };
    const page = await call(client, 'ListEvents', request);
    ids.push(...(page.events ?? []).map(({ signed }) => signed.event.event_id));
    pageToken = page.next_page_token ?? '';
  } while (pageToken);
  return ids;
}

/** Stands between client and node and cuts each connection after a number of bytes: the network at its worst. */
function cuttingProxy(cutAfterBytes) {
  const [host, port] = NODE.address.split(':');
  const proxy = { cuts: 0 };
  const server = createServer((client) => {
    const node = connectTcp({ host, port: Number(port) });
    let left = cutAfterBytes;
    for (const [source, sink] of [[client, node], [node, client]]) {
      source.on('data', (data) => {
        left -= data.length;
        if (left > 0) sink.write(data);
        else if (!source.destroyed) {
          proxy.cuts += 1;
          client.destroy();
          node.destroy();
        }
      });
      source.on('close', () => sink.destroy());
      source.on('error', () => sink.destroy());
    }
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      proxy.address = `localhost:${server.address().port}`;
      proxy.close = () => server.close();
      resolve(proxy);
    });
  });
}

let port;
before(() => {
  port = clientOf('port');
});
after(() => clients.forEach((client) => client.close()));

test('a batch is stored once however often it is sent', async () => {
  const batch = moves(3, voyage());
  const first = await publish(port, batch);
  const again = await publish(port, batch);
  assert.deepEqual(first.map((r) => Boolean(r.duplicate)), [false, false, false]);
  assert.deepEqual(again.map((r) => r.duplicate), [true, true, true]);
  assert.deepEqual(again.map((r) => r.position), first.map((r) => r.position));
});

test('a refusal can be decoded: code, reason, and each field that is wrong', async () => {
  const batch = moves(2, voyage());
  batch[1].subjects[0].value = 'MSKU9070320';
  await assert.rejects(publish(port, batch), (problem) => {
    assert.ok(problem instanceof Problem);
    assert.equal(problem.code, grpc.status.INVALID_ARGUMENT);
    const [violation] = problem.violations;
    assert.equal(violation.field, 'events[1].subjects[0].value');
    assert.equal(violation.reason, 'CHECK_DIGIT_WRONG');
    return true;
  });
});

test('who has no grant publishes nothing', async () => {
  const event = { ...moves(1, voyage())[0], publisher: NODE.participants.stranger.id };
  await assert.rejects(publish(clientOf('stranger'), [event]), (problem) => {
    assert.equal(problem.code, grpc.status.PERMISSION_DENIED);
    assert.notEqual(problem.reason, '');
    return true;
  });
});

test('a stream that is cut again and again loses and doubles nothing', async () => {
  const on = voyage();
  const batches = Array.from({ length: 600 }, () => moves(5, on));
  const sent = batches.flat().map(({ event_id: id }) => id);
  const proxy = await cuttingProxy(120_000);
  const answered = [];
  for await (const [, outcome] of publishStream(clientOf('port', proxy.address), batches)) {
    assert.ok(Array.isArray(outcome), String(outcome));
    answered.push(...outcome.map(({ event_id: id }) => id));
  }
  proxy.close();
  assert.ok(proxy.cuts >= 3, 'the proxy must have cut, else this shows nothing');
  assert.deepEqual(answered, sent);
  assert.deepEqual((await listed(port, ofVoyage(on))).sort(), [...sent].sort());
});

test('a follower that is cut and restarted sees every event in order', async () => {
  const on = voyage();
  const sent = moves(3000, on);
  const proxy = await cuttingProxy(250_000);
  const directory = mkdtempSync(join(tmpdir(), 'tradelane-'));
  const position = new PositionFile(join(directory, 'position.txt'));
  const seen = new Set();
  const handle = ({ signed: { event } }) => seen.add(event.event_id);
  // Two lives of the client, the second one from the position that the first one left on disk.
  const lives = (async () => {
    for (const until of [1000, 3000]) {
      await follow(clientOf('customs', proxy.address), [ofVoyage(on)], position, handle, () => seen.size >= until);
    }
  })();
  const batches = Array.from({ length: 300 }, (_, i) => sent.slice(i * 10, i * 10 + 10));
  for await (const [, outcome] of publishStream(port, batches)) assert.ok(Array.isArray(outcome), String(outcome));
  await lives;
  proxy.close();
  rmSync(directory, { recursive: true });
  assert.deepEqual([...seen], sent.map(({ event_id: id }) => id));
  assert.ok(proxy.cuts >= 1, 'the proxy must have cut, else this shows nothing');
});
