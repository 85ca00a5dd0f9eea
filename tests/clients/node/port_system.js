// An example port system: it tells the exchange what its cranes discharged. Two ways, both of which neither lose nor double an event
// whatever happens to node and network: `publish` for a batch now and then, `publishStream` for a steady flow.
//
//   node port_system.js --proto ../../../proto --ca ca.pem --cert port.pem --key port.key --publisher spiffe://port.example/system
import { randomUUID } from 'node:crypto';
import { argv, exit } from 'node:process';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { Backoff, connect, problemOfCall, problemOfStatus, timestamp } from './tradelane_client.js';

const PUBLISH_TIMEOUT_MS = 15_000;
// Requests that may wait for their answers. More does not make a link faster, it only makes the pile larger that is sent again.
const IN_FLIGHT_MAX = 64;

/** One crane move. The id is made once, here, and kept with the move: whoever sends it again sends the same id. */
export function discharged(publisher, container, voyage, carrier) {
  const now = timestamp(new Date());
  return {
    event_id: randomUUID(),
    publisher,
    event_time: now,
    created_time: now,
    classifier: 'CLASSIFIER_ACTUAL',
    subjects: [
      { kind: 'IDENTIFIER_KIND_CONTAINER', value: container, role: 'SUBJECT_ROLE_PRIMARY' },
      { kind: 'IDENTIFIER_KIND_VOYAGE', value: voyage, issuer: carrier, role: 'SUBJECT_ROLE_CARRIED_BY' },
    ],
    places: [{ role: 'PLACE_ROLE_EVENT', kind: 'PLACE_KIND_TERMINAL', un_locode: 'PKKHI' }],
    mode: 'TRANSPORT_MODE_MARITIME',
    audience: { reach: 'REACH_NETWORK' },
    handling: {
      step: 'HANDLING_STEP_DISCHARGED',
      size_type: '45G1',
      load_status: 'LOAD_STATUS_LADEN',
      traffic: 'TRAFFIC_IMPORT',
    },
  };
}

/** Publishes a batch, all or nothing. Resolves when the node has it on disk; rejects with what cannot be mended by trying again. */
export async function publish(client, events, patienceMs = 60_000) {
  const request = { events: events.map((event) => ({ event })) };
  const backoff = new Backoff();
  const giveUpAt = Date.now() + patienceMs;
  for (;;) {
    try {
      const answer = await new Promise((resolve, reject) => {
        const deadline = new Date(Date.now() + PUBLISH_TIMEOUT_MS);
        client.Publish(request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
      });
      return answer.results;
    } catch (error) {
      const problem = problemOfCall(error);
      if (!problem.retryable || Date.now() > giveUpAt) throw problem;
      await backoff.wait(problem);
    }
  }
}

/**
 * Publishes batches without waiting for each, and yields each with its results, or with why the node refused it. Batches that were not
 * answered when a stream broke are sent again on the next one: those that were stored already are answered as duplicates.
 */
export async function* publishStream(client, batches) {
  const source = batches[Symbol.iterator]();
  const unanswered = [];
  const backoff = new Backoff();
  let exhausted = false;
  let number = 0;
  while (!exhausted || unanswered.length > 0) {
    const call = client.PublishStream();
    // An error ends the loop below as an exception; what comes after that, our own cancelling, concerns nobody.
    call.on('error', () => {});
    const fill = () => {
      while (!exhausted && unanswered.length < IN_FLIGHT_MAX) {
        const { done, value: batch } = source.next();
        if (done) {
          exhausted = true;
        } else {
          number += 1;
          const request = { correlation_id: String(number), publish: { events: batch.map((event) => ({ event })) } };
          unanswered.push({ request, batch });
          call.write(request);
        }
      }
      if (unanswered.length === 0) call.end();
    };
    try {
      for (const { request } of unanswered) call.write(request);
      fill();
      for await (const answer of call) {
        const { request, batch } = unanswered.shift();
        if (answer.correlation_id !== request.correlation_id) {
          throw new Error(`answer ${answer.correlation_id} to request ${request.correlation_id}`);
        }
        if (answer.answer === 'error') {
          const problem = problemOfStatus(answer.error);
          if (problem.retryable) {
            unanswered.push({ request, batch });
            await backoff.wait(problem);
            call.write(request);
          } else {
            yield [batch, problem];
          }
        } else {
          backoff.reset();
          yield [batch, answer.response.results];
        }
        fill();
      }
    } catch (error) {
      const problem = problemOfCall(error);
      if (!problem.retryable) throw problem;
      await backoff.wait(problem);
    } finally {
      call.cancel();
    }
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      address: { type: 'string', default: 'localhost:7443' },
      proto: { type: 'string', default: '../../../proto' },
      ca: { type: 'string' },
      cert: { type: 'string' },
      key: { type: 'string' },
      publisher: { type: 'string' },
    },
  });
  const containers = positionals.length > 0 ? positionals : ['MSKU9070323', 'CSQU3054383'];
  const client = connect(values.address, values, values.proto);
  try {
    const events = containers.map((container) => discharged(values.publisher, container, '031W', 'MSK'));
    for (const result of await publish(client, events)) {
      const again = result.duplicate ? ' (it was there already)' : '';
      console.log(`${result.event_id} is stored at ${result.position}${again}`);
    }
  } catch (error) {
    console.error(String(problemOfCall(error)));
    exit(1);
  } finally {
    client.close();
  }
}

if (import.meta.url === pathToFileURL(argv[1]).href) await main();
