"""What every Python client of a node needs: a channel over mutual TLS, errors with their details, and waiting between attempts. Copy it
into your own system; it knows nothing of what you publish."""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

# Codes after which the same request may be sent again: publishing is idempotent, so a call whose fate is unknown is repeated, never
# given up.
RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class Identity:
    """The files that say who we are and whom we trust."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


def connect(address: str, identity: Identity) -> grpc.Channel:
    """Opens a channel. The node refuses whoever shows no certificate; we refuse a node whose name its own does not bear."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=identity.ca_file.read_bytes(),
        private_key=identity.key_file.read_bytes(),
        certificate_chain=identity.certificate_file.read_bytes(),
    )
    options = [
        # A connection of its own: channels of one process would else share one, and wait for each other on it.
        ("grpc.use_local_subchannel_pool", 1),
        # Notices within half a minute that the other side, or a firewall between, has gone without a word.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.max_receive_message_length", 16 * 1024 * 1024),
        # We wait between attempts ourselves; a channel that stays away for two minutes after a short break would not help.
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    return grpc.secure_channel(address, credentials, options)


@dataclass(frozen=True)
class Problem:
    """A refused call, with the details that a program can act on."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[tuple[str, str, str]] = field(default_factory=list)
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        return self.code in RETRYABLE

    def __str__(self) -> str:
        lines = [f"{self.code.name} {self.reason}: {self.message}"]
        lines += [f"  {where}: {what} ({why})" for where, why, what in self.violations]
        return "\n".join(lines)


def problem_of_call(error: grpc.RpcError) -> Problem:
    """The problem that a failed call raised."""
    status = rpc_status.from_call(error)
    if status is None:
        return Problem(error.code(), error.details() or "")
    return problem_of_status(status)


def problem_of_status(status: status_pb2.Status) -> Problem:
    """The problem inside an answer: of one request of a stream, or of one event of a batch."""
    code = next(c for c in grpc.StatusCode if c.value[0] == status.code)
    reason, metadata, violations, retry_after_s = "", {}, [], None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations += [(v.field, v.reason, v.description) for v in bad.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return Problem(code, status.message, reason, metadata, violations, retry_after_s)


class Backoff:
    """Waits between attempts: exponential with full jitter, so that a thousand clients of a restarted node do not come back at once.
    What the node itself asks for (RetryInfo) is the least that is waited."""

    def __init__(self, first_s: float = 0.1, longest_s: float = 30.0) -> None:
        self._first_s, self._longest_s, self._attempt = first_s, longest_s, 0

    def reset(self) -> None:
        """To be called after a success."""
        self._attempt = 0

    def wait(self, problem: Problem) -> None:
        ceiling_s = min(self._longest_s, self._first_s * 2**self._attempt)
        self._attempt = min(self._attempt + 1, 16)
        time.sleep((problem.retry_after_s or 0.0) + random.uniform(0.0, ceiling_s))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options by which an example finds its node and its certificates."""
    parser.add_argument("--address", default="localhost:7443", help="host and port of the node")
    parser.add_argument("--ca", type=Path, required=True, help="authorities of the node's trust domain, PEM")
    parser.add_argument("--cert", type=Path, required=True, help="our certificate chain, PEM")
    parser.add_argument("--key", type=Path, required=True, help="our private key, PEM")


def channel_from(arguments: argparse.Namespace) -> grpc.Channel:
    """The channel that the options of add_arguments describe."""
    return connect(arguments.address, Identity(arguments.ca, arguments.cert, arguments.key))
