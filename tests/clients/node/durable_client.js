// An example client on a durable subscription: the node keeps our place, so that there is nothing to keep on our side. What was answered as
// settled never comes again, whatever happens to us, to the line or to the node; what was not may come twice.
//
//   node durable_client.js --proto ../../../proto --ca ca.pem --cert customs.pem --key customs.key --subscription holds
import { argv, exit } from 'node:process';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import grpc from '@grpc/grpc-js';
import { Backoff, Problem, connect, problemOfCall } from './tradelane_client.js';

const CALL_TIMEOUT_MS = 30_000;
// The node takes a consumer of whom it hears nothing for 30 s for gone, and asks for a sign of life every 20 s.
const HEARTBEAT_MS = 5_000;
// It says something itself every 10 s: after three times that the line is broken, whatever TCP believes.
const SILENCE_MAX_MS = 30_000;
/** How many events may be with us at once. */
export const CREDIT = 50;

/** An event failed, and shall come again; not before `delayMs`, nor before the subscription's own wait. */
export class TryAgain extends Error {
  constructor(reason, delayMs = 0) {
    super(reason);
    this.delayMs = delayMs;
  }
}

/** An event can never be processed: it becomes a dead letter at once. */
export class NeverPossible extends Error {}

/** Makes the subscription from the beginning of the log, or finds it as it is; resolves to it. To be called at every start. */
export async function create(client, name, definition) {
  const request = { name, definition, start_at: 'START_AT_EARLIEST' };
  const answer = await new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + CALL_TIMEOUT_MS);
    client.CreateSubscription(request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
  return answer.subscription;
}

/**
 * Handles every event of the subscription (as `create` gave it), one after the other, for ever or until `stopped`. `handle` must not
 * block the process, else no heartbeat goes out; it resolves where the event is done, and rejects with TryAgain or NeverPossible where not.
 * `settled` is told what the node answered, durably. `widened` is told what we see more of than before, again and again until it resolves
 * once: what was withheld until then does not come by itself, and is fetched by the subject. Rejects with what trying again cannot mend.
 */
export async function consume(
  client,
  subscription,
  handle,
  { settled = () => {}, stopped = () => false, widened = showWidened } = {},
) {
  const backoff = new Backoff();
  while (!stopped()) {
    const line = new Line(client, subscription);
    try {
      for await (const message of line.messages()) {
        if (message.message === 'started') {
          if (message.started.narrowed) console.error('note: our grants show us less than we asked for');
        } else if (message.message === 'deliveries') {
          for (const delivery of message.deliveries.deliveries) {
            // What comes after the wish to leave goes to others.
            if (!stopped() && line.isToBeProcessed(delivery)) line.settle(delivery, await verbOf(handle, delivery));
          }
        } else if (message.message === 'visibility_widened') {
          await widened(message.visibility_widened);
          line.hasDealtWith(message.visibility_widened.position);
        } else if (message.message === 'settled') {
          backoff.reset();
          settled(line.answered(message.settled), message.settled.outcomes[0]);
        }
        if (stopped()) line.leave();
      }
    } catch (error) {
      const problem = problemOfCall(error);
      // ABORTED: somebody has moved the subscription to another place, and we go on from there.
      if (!problem.retryable && problem.code !== grpc.status.ABORTED) throw problem;
      await backoff.wait(problem);
    } finally {
      line.close();
    }
  }
}

/** What becomes of an event. */
async function verbOf(handle, delivery) {
  try {
    await handle(delivery);
    return { acknowledge: {} };
  } catch (failure) {
    const reason = failure.message;
    if (failure instanceof NeverPossible) return { park: { reason } };
    if (!(failure instanceof TryAgain)) throw failure;
    const { delayMs } = failure;
    return { reject: { reason, delay: { seconds: Math.floor(delayMs / 1000), nanos: (delayMs % 1000) * 1e6 } } };
  }
}

/** One stream: what we say on it, and of what was said on it we still need to know. */
class Line {
  #unanswered = new Map();
  #lastId = 0;
  #leaving = false;
  #isSilent = false;
  // In an ORDERED subscription, until a rejection is answered: its number, and the rejected position.
  #rejection = null;

  constructor(client, { name, definition }) {
    this.isOrdered = definition.mode === 'SUBSCRIPTION_MODE_ORDERED';
    this.call = client.Consume();
    // An error ends the loop over messages as an exception; what comes after that, our own cancelling, concerns nobody.
    this.call.on('error', () => {});
    this.call.write({ start: { name, credit: CREDIT } });
    this.heartbeat = setInterval(() => this.call.write({ heartbeat: {} }), HEARTBEAT_MS);
  }

  /** What the node says, until we have left. Rejects where it says nothing for too long, or ends before we do. */
  async *messages() {
    const messages = this.call[Symbol.asyncIterator]();
    for (;;) {
      // Runs only while we wait for the node, not while the node waits for us.
      const alarm = setTimeout(() => {
        this.#isSilent = true;
        this.call.cancel();
      }, SILENCE_MAX_MS);
      let next;
      try {
        next = await messages.next();
      } catch (error) {
        throw this.#isSilent ? new Problem(grpc.status.UNAVAILABLE, 'the node has said nothing for too long') : error;
      } finally {
        clearTimeout(alarm);
      }
      if (next.done) {
        if (this.#leaving) return;
        throw new Problem(grpc.status.UNAVAILABLE, 'the node ended the stream');
      }
      yield next.value;
    }
  }

  settle({ event: { position }, delivery_attempt: attempt }, verb) {
    this.#lastId += 1;
    const id = String(this.#lastId);
    this.#unanswered.set(id, position);
    if (verb.reject && this.isOrdered) this.#rejection = { id, position };
    const deliveries = [{ position, delivery_attempt: attempt }];
    this.call.write({ settlement: { correlation_id: id, deliveries, ...verb } });
  }

  hasDealtWith(position) {
    this.#lastId += 1;
    const id = String(this.#lastId);
    this.#unanswered.set(id, position);
    this.call.write({ settlement: { correlation_id: id, deliveries: [{ position }], acknowledge_widening: {} } });
  }

  /**
   * False for what was on its way when we rejected something before it: the node has taken it back, and sends it again after the answer,
   * behind the rejected event. Processed now it would be out of order.
   */
  isToBeProcessed({ event: { position } }) {
    // The rejected event itself had gone back before our word came, which settles nothing then.
    if (this.#rejection?.position === position) this.#rejection = null;
    return this.#rejection === null;
  }

  /** The position that the answer is about. */
  answered({ correlation_id: id }) {
    const position = this.#unanswered.get(id);
    this.#unanswered.delete(id);
    if (this.#rejection?.id === id) this.#rejection = null;
    return position;
  }

  /** Leaves in order once everything is answered: what we have not begun goes to others. */
  leave() {
    if (!this.#leaving) {
      this.#leaving = true;
      this.call.write({ credit: { credit: 0 } });
    }
    if (this.#unanswered.size === 0) this.call.end();
  }

  close() {
    clearInterval(this.heartbeat);
    this.call.cancel();
  }
}

/** What a real client would hand to its own system, which had better know by the event's id what it has done before. */
function show({ event: { signed: { event } }, delivery_attempt: attempt }) {
  const time = new Date(Number(event.event_time.seconds) * 1000).toISOString();
  const again = attempt > 1 ? `(attempt ${attempt})` : '';
  console.log(time, event.body, event.subjects.map(({ value }) => value).join(', '), 'by', event.publisher, again);
}

/** A real client would now fetch the history of each subject, with EventService.GetTimeline. */
function showWidened({ widenings, incomplete }) {
  for (const { subject } of widenings) console.error(`note: from here on we see more of ${subject.value}`);
  if (incomplete) console.error('note: and of others that are not named');
}

async function main() {
  const { values } = parseArgs({
    options: {
      address: { type: 'string', default: 'localhost:7443' },
      proto: { type: 'string', default: '../../../proto' },
      ca: { type: 'string' },
      cert: { type: 'string' },
      key: { type: 'string' },
      subscription: { type: 'string', default: 'clearances' },
    },
  });
  const client = connect(values.address, values, values.proto, 'SubscriptionService');
  try {
    const subscription = await create(client, values.subscription, { filters: [{ types: ['clearance', 'hold'] }] });
    await consume(client, subscription, show);
  } catch (error) {
    console.error(String(problemOfCall(error)));
    exit(1);
  }
}

if (import.meta.url === pathToFileURL(argv[1]).href) await main();
