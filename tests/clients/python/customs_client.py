"""An example customs client: it follows what is discharged in its country, and goes on where it stopped, whatever happened between. The
position on disk is written after an event was handled, so an event may come twice after a crash and is never missed.

    python customs_client.py --ca ca.pem --cert customs.pem --key customs.key --country PK --position-file position.txt
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from tradelane.v1 import event_pb2 as pb
from tradelane.v1 import event_service_pb2 as api
from tradelane.v1.event_service_pb2_grpc import EventServiceStub

from tradelane_client import Backoff, Problem, add_arguments, channel_from, problem_of_call


class PositionFile:
    """Our place in the node's log. A position is opaque: it is kept and given back, never read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> str:
        return self._path.read_text().strip() if self._path.exists() else ""

    def save(self, position: str) -> None:
        """Replaces the file in one step: after a power cut the old or the new position is there, never half of one."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(position)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)


def follow(
    stub: EventServiceStub,
    filters: list[pb.EventFilter],
    position: PositionFile,
    handle: Callable[[pb.RecordedEvent], None],
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Handles every event that matches, in the order of the node's log, for ever or until `stopped`. Raises only what trying again
    cannot mend: access withdrawn, or a position that this log no longer has."""
    backoff = Backoff()
    while not stopped():
        try:
            for message in _stream(stub, filters, position.load()):
                kind = message.WhichOneof("message")
                if kind == "started":
                    if message.started.narrowed:
                        print("note: our grants show us less than we asked for", file=sys.stderr)
                    continue
                # Only what brings us on ends the waiting: a stream that breaks right after its start is no success.
                backoff.reset()
                if kind == "events":
                    for recorded in message.events.events:
                        handle(recorded)
                    position.save(message.events.events[-1].position)
                elif kind == "progress":
                    # Nothing matched for a while: remember how far the node looked, so that it need not look there again.
                    position.save(message.progress.position)
                elif kind == "caught_up":
                    position.save(message.caught_up.position)
                if stopped():
                    return
        except grpc.RpcError as error:
            problem = problem_of_call(error)
            if not problem.retryable:
                raise
            backoff.wait(problem)


def _stream(stub: EventServiceStub, filters: list[pb.EventFilter], after: str) -> Iterator[api.SubscribeResponse]:
    """One subscription, cancelled when the caller stops reading."""
    request = api.SubscribeRequest(filters=filters)
    if after:
        request.after_position = after
    else:
        request.start_at = api.START_AT_EARLIEST
    call = stub.Subscribe(request)
    try:
        yield from call
    finally:
        call.cancel()


def show(recorded: pb.RecordedEvent) -> None:
    """What a real client would hand to its own risk system."""
    event = recorded.signed.event
    subjects = ", ".join(subject.value for subject in event.subjects)
    print(f"{event.event_time.ToJsonString()} {event.WhichOneof('body')} {subjects} by {event.publisher}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--country", default="PK", help="only what happens there (ISO 3166-1 alpha-2)")
    parser.add_argument("--position-file", type=Path, default=Path("position.txt"), help="where our place is kept")
    arguments = parser.parse_args()
    filters = [
        pb.EventFilter(
            types=["handling.discharged"],
            places=[pb.Place(role=pb.PLACE_ROLE_EVENT, country_code=arguments.country)],
        )
    ]
    with channel_from(arguments) as channel:
        try:
            follow(EventServiceStub(channel), filters, PositionFile(arguments.position_file), show)
        except grpc.RpcError as error:
            problem: Problem = problem_of_call(error)
            print(problem, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
