// Kills the node again and again under a durable consumer: nothing is lost, order is kept, and nothing comes again that the node has said
// to be settled. Run by start_node.py, which starts the node anew after each kill; TRADELANE_PROTO is where proto/ is.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CREDIT, NeverPossible, TryAgain, consume, create } from './durable_client.js';
import { discharged, publish } from './port_system.js';
import { connect } from './tradelane_client.js';

const NODE = JSON.parse(readFileSync(process.env.TRADELANE_TEST_NODE, 'utf8'));
// All of it takes some seconds; a machine that is busy with other things takes longer.
const PATIENCE_MS = 120_000;
const EVENTS = 600;
const KILLS = 3;
// How far a consumer comes beyond the place of a kill before she waits for it: fewer events than she may have with her at once.
const BEYOND_KILL = CREDIT / 2;

const connectAs = (name, service) => {
  const { cert, key } = NODE.participants[name];
  return connect(NODE.address, { ca: NODE.ca, cert, key }, process.env.TRADELANE_PROTO, service);
};
const moves = (count, on) =>
  Array.from({ length: count }, () => discharged(NODE.participants.port.id, 'MSKU9070323', on, 'MSK'));
const idOf = (delivery) => delivery.event.signed.event.event_id;
const idsOf = (events) => events.map(({ event_id: id }) => id);

async function until(condition, what) {
  const giveUpAt = Date.now() + PATIENCE_MS;
  while (!condition()) {
    assert.ok(Date.now() < giveUpAt, `this did not come: ${what}`);
    await sleep(10);
  }
}

/** Without a word, as the kernel does it; resolves when another node process is there. */
async function killNode() {
  const processId = () => Number(readFileSync(NODE.process, 'utf8'));
  const before = processId();
  process.kill(before, 'SIGKILL');
  await until(() => processId() !== before, 'another node process');
}

let port;
let customs;
before(() => {
  port = connectAs('port', 'EventService');
  customs = connectAs('customs', 'SubscriptionService');
});
after(() => [port, customs].forEach((client) => client.close()));

/** A subscription of its own to the events of a voyage of its own. */
async function subscribed(settings = {}) {
  const on = `V${randomUUID().replaceAll('-', '').slice(0, 10).toUpperCase()}`;
  const filters = [{ subjects: [{ kind: 'IDENTIFIER_KIND_VOYAGE', value: on }] }];
  return { on, subscription: await create(customs, `s-${randomUUID().slice(0, 8)}`, { filters, ...settings }) };
}

/** Customs says that the broker is a party of it. */
function namesBroker(subject) {
  const { handling, places, ...event } = discharged(NODE.participants.customs.id, 'MSKU9070323', subject.value, 'MSK');
  const association = {
    step: 'ASSOCIATION_STEP_ATTACHED',
    parent: subject,
    children: [{ kind: 'IDENTIFIER_KIND_CONTAINER', value: 'MSKU9070323' }],
    parties: [{ role: 'PARTY_ROLE_DECLARANT', participant: NODE.participants.trader.id }],
  };
  return { ...event, subjects: [subject], association };
}

/** Publishes in batches of ten, each again until it is stored: publishing is idempotent. */
async function published(events) {
  for (let start = 0; start < events.length; start += 10) {
    await publish(port, events.slice(start, start + 10), PATIENCE_MS);
  }
}

test('a consumer loses nothing and gets nothing again that was settled', { timeout: PATIENCE_MS }, async () => {
  const { on, subscription } = await subscribed();
  const sent = moves(EVENTS, on);
  // A map keeps the order in which its keys came first.
  const handled = new Map();
  const settled = new Set();
  const again = [];
  const places = Array.from({ length: KILLS }, (_, kill) => ((kill + 1) * EVENTS) / (KILLS + 1));
  let killed = 0;
  const handle = async (delivery) => {
    const { position } = delivery.event;
    if (settled.has(position)) again.push(position);
    if (!handled.has(position)) handled.set(position, idOf(delivery));
    // No kill comes later than in the middle: a consumer that had handled everything would stop, and what she was not answered would
    // rightly come again to the next.
    const due = places.filter((place) => handled.size >= place + BEYOND_KILL).length;
    if (killed < due) await until(() => killed >= due, `kill ${due}`);
  };
  const answered = (position, outcome) => {
    if (['SETTLEMENT_OUTCOME_DONE', 'SETTLEMENT_OUTCOME_ALREADY_SETTLED'].includes(outcome)) settled.add(position);
  };
  const work = Promise.all([
    consume(customs, subscription, handle, { settled: answered, stopped: () => handled.size >= EVENTS }),
    published(sent),
  ]);
  const kills = (async () => {
    for (const place of places) {
      await until(() => handled.size >= place, `event ${place}, at which a kill comes`);
      assert.ok(handled.size < EVENTS, 'the kill must come in the middle, else this shows nothing');
      await killNode();
      killed += 1;
    }
  })();
  await Promise.all([work, kills]);
  assert.deepEqual([...handled.values()], idsOf(sent));
  assert.deepEqual(again, []);
  // What a kill took was the answers on their way, at most as many as the consumer had: all else was settled once.
  assert.ok(settled.size >= EVENTS - KILLS * CREDIT, `only ${settled.size} were settled`);
  // Nor does another consumer get anything, after one more kill.
  await killNode();
  const more = moves(1, on);
  await published(more);
  const last = [];
  await consume(customs, subscription, (delivery) => last.push(idOf(delivery)), {
    stopped: () => last.includes(more[0].event_id),
  });
  assert.deepEqual(last, idsOf(more));
});

test('what was rejected comes again before what follows it, through a kill', { timeout: PATIENCE_MS }, async () => {
  const wait = { seconds: 0, nanos: 50e6 };
  const { on, subscription } = await subscribed({ attempts_max: 3, backoff_min: wait, backoff_max: wait });
  const sent = moves(20, on);
  const [fails, hopeless, recovers] = idsOf([sent[4], sent[9], sent[14]]);
  await published(sent);
  const calls = [];
  const handle = async (delivery) => {
    const id = idOf(delivery);
    calls.push(id);
    if (id === hopeless) throw new NeverPossible('nobody here knows the voyage');
    if (id === fails) throw new TryAgain('the system behind is down');
    if (id === recovers && delivery.delivery_attempt < 2) throw new TryAgain('the system behind is starting', 20);
  };
  const consumed = (stopped) => consume(customs, subscription, handle, { stopped });
  await consumed(() => calls.filter((id) => id === fails).length === 2);
  await killNode();
  const all = idsOf(sent);
  await consumed(() => calls.includes(all.at(-1)));
  const times = (id) => ({ [fails]: 3, [recovers]: 2 })[id] ?? 1;
  assert.deepEqual(calls, all.flatMap((id) => Array(times(id)).fill(id)));
  const { dead_letters: letters } = await new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + PATIENCE_MS);
    const request = { name: subscription.name };
    customs.ListDeadLetters(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  assert.deepEqual(letters.map(({ event_id: id, reason }) => [id, reason]), [
    [fails, 'the system behind is down'],
    [hopeless, 'nobody here knows the voyage'],
  ]);
});

test('what was withheld is told through a kill until it is dealt with', { timeout: PATIENCE_MS }, async () => {
  const trader = connectAs('trader', 'SubscriptionService');
  const asTrader = connectAs('trader', 'EventService');
  const asCustoms = connectAs('customs', 'EventService');
  try {
    const on = `V${randomUUID().replaceAll('-', '').slice(0, 10).toUpperCase()}`;
    const voyage = { kind: 'IDENTIFIER_KIND_VOYAGE', value: on };
    const filters = [{ subjects: [voyage] }];
    const subscription = await create(trader, `s-${randomUUID().slice(0, 8)}`, { filters });
    const [withheld, opened] = moves(2, on);
    await published([withheld]);
    await publish(asCustoms, [namesBroker({ ...voyage, issuer: 'MSK' })], PATIENCE_MS);
    const [told, answered, handled] = [[], [], []];
    const widened = async ({ position, widenings: [{ subject }] }) => {
      told.push(position);
      if (told.length === 1) {
        await killNode(); // Our answer does not come through: this is told again.
        return;
      }
      const { entries } = await new Promise((resolve, reject) => {
        const deadline = new Date(Date.now() + PATIENCE_MS);
        asTrader.GetTimeline({ subject }, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
      });
      handled.push(...entries.map(({ event }) => event.signed.event.event_id));
    };
    const settled = (position) => answered.push(position);
    const consumed = (stopped) =>
      consume(trader, subscription, (delivery) => handled.push(idOf(delivery)), { settled, widened, stopped });
    await consumed(() => told.length === 2 && answered.includes(told[1]));
    assert.ok(handled.includes(withheld.event_id), 'it can be fetched');
    await killNode();
    await published([opened]);
    await consumed(() => handled.includes(opened.event_id));
    assert.equal(told.length, 2, 'what was dealt with is not told again');
  } finally {
    [trader, asTrader, asCustoms].forEach((client) => client.close());
  }
});
