"""An example gate system: it knows of each container whether it may leave, follows every change of that, and goes on where it stopped,
whatever happened between. It opens the gate only on the node's word `released`, never on a guess of its own.

    python gate_client.py --ca ca.pem --cert terminal.pem --key terminal.key MSKU9070323 CSQU3054383
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import grpc
from tradelane.v1 import clearance_service_pb2 as clearance
from tradelane.v1 import event_pb2 as pb
from tradelane.v1 import event_service_pb2 as api
from tradelane.v1.clearance_service_pb2_grpc import ClearanceServiceStub

from tradelane_client import Backoff, add_arguments, channel_from, problem_of_call

CALL_TIMEOUT_S = 10.0


def container(number: str) -> pb.Subject:
    """A container as a request names it."""
    return pb.Subject(kind=pb.IDENTIFIER_KIND_CONTAINER, value=number)


def may_leave(stub: ClearanceServiceStub, subject: pb.Subject) -> tuple[bool, str]:
    """Whether it may leave now, and else why not. What the node knows nothing of may not leave."""
    try:
        answer = stub.GetClearance(clearance.GetClearanceRequest(subject=subject), timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return False, "nothing is known of it"
        raise
    return answer.clearance.released, reasons(answer.clearance)


def reasons(status: clearance.ClearanceStatus) -> str:
    """What stands against a release, in words."""
    words = [clearance.Obstacle.Name(one).removeprefix("OBSTACLE_").lower() for one in status.obstacles]
    words += [f"hold {hold.hold_id} of {hold.authority_domain}" for hold in status.open_holds]
    if status.withheld_holds:
        words.append(f"{status.withheld_holds} more holds")
    return ", ".join(words)


def follow(
    stub: ClearanceServiceStub,
    subjects: list[pb.Subject],
    after: str,
    handle: Callable[[clearance.ClearanceChanges], None],
    stopped: Callable[[], bool] = lambda: False,
) -> str:
    """Handles every change in the order of the node's log, for ever or until `stopped`; answers the position to go on from. A change
    that was handled does not come again. Raises only what trying again cannot mend."""
    backoff = Backoff()
    while not stopped():
        try:
            for message in _stream(stub, subjects, after):
                kind = message.WhichOneof("message")
                if kind == "changes":
                    handle(message.changes)
                if kind in ("changes", "progress", "caught_up"):
                    # Only what brings us on ends the waiting.
                    after = getattr(message, kind).position
                    backoff.reset()
                if stopped():
                    return after
        except grpc.RpcError as error:
            problem = problem_of_call(error)
            if not problem.retryable:
                raise
            backoff.wait(problem)
    return after


def _stream(
    stub: ClearanceServiceStub, subjects: list[pb.Subject], after: str
) -> Iterator[clearance.WatchClearancesResponse]:
    """One watch, cancelled when the caller stops reading."""
    request = clearance.WatchClearancesRequest(subjects=subjects)
    if after:
        request.after_position = after
    else:
        request.start_at = api.START_AT_EARLIEST
    call = stub.WatchClearances(request)
    try:
        yield from call
    finally:
        call.cancel()


def show(changes: clearance.ClearanceChanges) -> None:
    """What a real gate would hand to its barrier."""
    for change in changes.changes:
        verdict = "may leave" if change.after.released else f"may not leave: {reasons(change.after)}"
        print(f"{change.subject.value} {verdict}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("containers", nargs="+", help="what stands in the yard")
    arguments = parser.parse_args()
    subjects = [container(number) for number in arguments.containers]
    with channel_from(arguments) as channel:
        stub = ClearanceServiceStub(channel)
        try:
            for subject in subjects:
                released, why = may_leave(stub, subject)
                print(f"{subject.value} {'may leave' if released else f'may not leave: {why}'}", flush=True)
            follow(stub, subjects, "", show)
        except grpc.RpcError as error:
            print(problem_of_call(error), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
