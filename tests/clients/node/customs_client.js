// An example customs client: it follows what is discharged in its country, and goes on where it stopped, whatever happened between. The
// position on disk is written after an event was handled, so an event may come twice after a crash and is never missed.
//
//   node customs_client.js --proto ../../../proto --ca ca.pem --cert customs.pem --key customs.key --country PK
import { existsSync, readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { argv, exit } from 'node:process';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { Backoff, connect, problemOfCall } from './tradelane_client.js';

/** Our place in the node's log. A position is opaque: it is kept and given back, never read. */
export class PositionFile {
  constructor(path) {
    this.path = path;
  }

  load() {
    return existsSync(this.path) ? readFileSync(this.path, 'utf8').trim() : '';
  }

  /** Replaces the file in one step: after a power cut the old or the new position is there, never half of one. */
  async save(position) {
    const fresh = `${this.path}.new`;
    const file = await open(fresh, 'w');
    try {
      await file.writeFile(position);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(fresh, this.path);
  }
}

/**
 * Handles every event that matches, in the order of the node's log, for ever or until `stopped`. Rejects only with what trying again
 * cannot mend: access withdrawn, or a position that this log no longer has.
 */
export async function follow(client, filters, position, handle, stopped = () => false) {
  const backoff = new Backoff();
  while (!stopped()) {
    const after = position.load();
    const start = after ? { after_position: after } : { start_at: 'START_AT_EARLIEST' };
    const call = client.Subscribe({ ...start, filters });
    // An error ends the loop below as an exception; what comes after that, our own cancelling, concerns nobody.
    call.on('error', () => {});
    try {
      for await (const message of call) {
        if (message.message === 'started') {
          if (message.started.narrowed) console.error('note: our grants show us less than we asked for');
          continue;
        }
        // Only what brings us on ends the waiting: a stream that breaks right after its start is no success.
        backoff.reset();
        if (message.message === 'events') {
          const { events } = message.events;
          for (const recorded of events) await handle(recorded);
          await position.save(events.at(-1).position);
        } else if (message.message === 'progress' || message.message === 'caught_up') {
          // Nothing matched for a while: remember how far the node looked, so that it need not look there again.
          await position.save(message[message.message].position);
        }
        if (stopped()) return;
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

/** What a real client would hand to its own risk system. */
function show({ signed: { event } }) {
  const time = new Date(Number(event.event_time.seconds) * 1000).toISOString();
  console.log(time, event.body, event.subjects.map(({ value }) => value).join(', '), 'by', event.publisher);
}

async function main() {
  const { values } = parseArgs({
    options: {
      address: { type: 'string', default: 'localhost:7443' },
      proto: { type: 'string', default: '../../../proto' },
      ca: { type: 'string' },
      cert: { type: 'string' },
      key: { type: 'string' },
      country: { type: 'string', default: 'PK' },
      'position-file': { type: 'string', default: 'position.txt' },
    },
  });
  const client = connect(values.address, values, values.proto);
  const filters = [
    { types: ['handling.discharged'], places: [{ role: 'PLACE_ROLE_EVENT', country_code: values.country }] },
  ];
  try {
    await follow(client, filters, new PositionFile(values['position-file']), show);
  } catch (error) {
    console.error(String(problemOfCall(error)));
    exit(1);
  }
}

if (import.meta.url === pathToFileURL(argv[1]).href) await main();
