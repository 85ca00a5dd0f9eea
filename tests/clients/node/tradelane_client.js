// What every Node.js client of a node needs: the services from proto/, a channel over mutual TLS, errors with their details, and waiting
// between attempts. Copy it into your own system; it knows nothing of what you publish.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import protobuf from 'protobufjs';

// Codes after which the same request may be sent again: publishing is idempotent, so a call whose fate is unknown is repeated, never
// given up.
const RETRYABLE = new Set([grpc.status.UNAVAILABLE, grpc.status.RESOURCE_EXHAUSTED, grpc.status.DEADLINE_EXCEEDED]);

// google.rpc's error details that a node sends, as published; grpc-js hands them over undecoded.
const details = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message Any { string type_url = 1; bytes value = 2; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message RetryInfo { Duration retry_delay = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message BadRequest {
    repeated FieldViolation field_violations = 1;
    message FieldViolation { string field = 1; string description = 2; string reason = 3; }
  }
`, { keepCase: true }).root;

/**
 * Loads the services of proto/ and connects one of them to the node, which refuses whoever shows no certificate.
 * @param {string} address host and port; the host must be a name in the node's certificate
 * @param {{ca: string, cert: string, key: string}} identity PEM files: whom we trust, and who we are
 * @param {string} protoDir where proto/ of this repository is
 * @param {'EventService'|'SubscriptionService'} service which
 */
export function connect(address, identity, protoDir, service = 'EventService') {
  const definition = loadSync(['tradelane/v1/event_service.proto', 'tradelane/v1/subscription_service.proto'], {
    includeDirs: [protoDir],
    keepCase: true,
    enums: String,
    longs: String,
    oneofs: true,
  });
  const { [service]: Service } = grpc.loadPackageDefinition(definition).tradelane.v1;
  const credentials = grpc.credentials.createSsl(
    readFileSync(identity.ca),
    readFileSync(identity.key),
    readFileSync(identity.cert),
  );
  return new Service(address, credentials, {
    // Notices within half a minute that the other side, or a firewall between, has gone without a word.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.max_receive_message_length': 16 * 1024 * 1024,
    'grpc.max_reconnect_backoff_ms': 5_000,
  });
}

/** A refused call or request, with the details that a program can act on. */
export class Problem extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'Problem';
    this.code = code;
    this.reason = '';
    this.metadata = {};
    this.violations = [];
    this.retryAfterMs = 0;
  }

  get retryable() {
    return RETRYABLE.has(this.code);
  }

  toString() {
    const lines = [`${grpc.status[this.code]} ${this.reason}: ${this.message}`];
    for (const { field, reason, description } of this.violations) lines.push(`  ${field}: ${description} (${reason})`);
    return lines.join('\n');
  }
}

/** The problem that a failed call raised. */
export function problemOfCall(error) {
  if (error instanceof Problem || error.code === undefined) return error;
  const [binary] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!binary) return new Problem(error.code, error.details);
  return problemOfStatus(details.lookupType('google.rpc.Status').decode(binary));
}

/** The problem inside an answer: of one request of a stream, or of one event of a batch. */
export function problemOfStatus(status) {
  const problem = new Problem(status.code, status.message);
  for (const { type_url: url, value } of status.details ?? []) {
    const name = url.slice(url.lastIndexOf('/') + 1);
    if (name === 'google.rpc.ErrorInfo') {
      const info = details.lookupType(name).decode(value);
      problem.reason = info.reason;
      problem.metadata = info.metadata;
    } else if (name === 'google.rpc.BadRequest') {
      problem.violations.push(...details.lookupType(name).decode(value).field_violations);
    } else if (name === 'google.rpc.RetryInfo') {
      const { retry_delay: delay } = details.lookupType(name).decode(value);
      problem.retryAfterMs = Number(delay?.seconds ?? 0) * 1000 + Number(delay?.nanos ?? 0) / 1e6;
    }
  }
  return problem;
}

/**
 * Waits between attempts: exponential with full jitter, so that a thousand clients of a restarted node do not come back at once. What
 * the node itself asks for (RetryInfo) is the least that is waited.
 */
export class Backoff {
  #attempt = 0;

  constructor(firstMs = 100, longestMs = 30_000) {
    this.firstMs = firstMs;
    this.longestMs = longestMs;
  }

  /** To be called after a success. */
  reset() {
    this.#attempt = 0;
  }

  async wait(problem) {
    const ceilingMs = Math.min(this.longestMs, this.firstMs * 2 ** this.#attempt);
    this.#attempt = Math.min(this.#attempt + 1, 16);
    await sleep(problem.retryAfterMs + Math.random() * ceilingMs);
  }
}

/** A time as protobuf has it. */
export function timestamp(date) {
  return { seconds: String(Math.floor(date.getTime() / 1000)), nanos: (date.getTime() % 1000) * 1e6 };
}
