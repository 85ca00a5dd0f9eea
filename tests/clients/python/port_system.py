"""An example port system: it tells the exchange what its cranes discharged. Two ways, both of which neither lose nor double an event
whatever happens to node and network: `publish` for a batch now and then, `publish_stream` for a steady flow.

    python port_system.py --ca ca.pem --cert port.pem --key port.key --publisher spiffe://port.example/system
"""

from __future__ import annotations

import argparse
import queue
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator

import grpc
from tradelane.v1 import event_pb2 as pb
from tradelane.v1 import event_service_pb2 as api
from tradelane.v1.event_service_pb2_grpc import EventServiceStub

from tradelane_client import Backoff, Problem, add_arguments, channel_from, problem_of_call, problem_of_status

PUBLISH_TIMEOUT_S = 15.0
# Requests that may wait for their answers. More does not make a link faster, it only makes the pile larger that is sent again.
IN_FLIGHT_MAX = 64


def discharged(publisher: str, container: str, voyage: str, carrier: str) -> pb.Event:
    """One crane move. The id is made once, here, and kept with the move: whoever sends it again sends the same id."""
    event = pb.Event(
        event_id=str(uuid.uuid4()),
        publisher=publisher,
        classifier=pb.CLASSIFIER_ACTUAL,
        subjects=[
            pb.Subject(kind=pb.IDENTIFIER_KIND_CONTAINER, value=container, role=pb.SUBJECT_ROLE_PRIMARY),
            pb.Subject(kind=pb.IDENTIFIER_KIND_VOYAGE, value=voyage, issuer=carrier, role=pb.SUBJECT_ROLE_CARRIED_BY),
        ],
        places=[pb.Place(role=pb.PLACE_ROLE_EVENT, kind=pb.PLACE_KIND_TERMINAL, un_locode="PKKHI")],
        mode=pb.TRANSPORT_MODE_MARITIME,
        audience=pb.Audience(reach=pb.REACH_NETWORK),
        handling=pb.Handling(
            step=pb.HANDLING_STEP_DISCHARGED,
            size_type="45G1",
            load_status=pb.LOAD_STATUS_LADEN,
            traffic=pb.TRAFFIC_IMPORT,
        ),
    )
    event.event_time.GetCurrentTime()
    event.created_time.CopyFrom(event.event_time)
    return event


def publish(stub: EventServiceStub, events: list[pb.Event], patience_s: float = 60.0) -> list[api.PublishResult]:
    """Publishes a batch, all or nothing. Returns when the node has it on disk; raises what cannot be mended by trying again."""
    request = api.PublishRequest(events=[pb.SignedEvent(event=event) for event in events])
    backoff, give_up_at = Backoff(), time.monotonic() + patience_s
    while True:
        try:
            return list(stub.Publish(request, timeout=PUBLISH_TIMEOUT_S).results)
        except grpc.RpcError as error:
            problem = problem_of_call(error)
            if not problem.retryable or time.monotonic() > give_up_at:
                raise
            backoff.wait(problem)


def publish_stream(
    stub: EventServiceStub, batches: Iterable[list[pb.Event]]
) -> Iterator[tuple[list[pb.Event], list[api.PublishResult] | Problem]]:
    """Publishes batches without waiting for each, and yields each with its results, or with why the node refused it. Batches that were
    not answered when a stream broke are sent again on the next one: those that were stored already are answered as duplicates."""
    source = ((number, batch) for number, batch in enumerate(batches, start=1))
    unanswered: deque[tuple[api.PublishStreamRequest, list[pb.Event]]] = deque()
    exhausted = False
    backoff = Backoff()
    while not (exhausted and not unanswered):
        outgoing: queue.SimpleQueue[api.PublishStreamRequest | None] = queue.SimpleQueue()
        for request, _ in unanswered:
            outgoing.put(request)
        call = stub.PublishStream(iter(outgoing.get, None))
        try:
            while True:
                while not exhausted and len(unanswered) < IN_FLIGHT_MAX:
                    entry = next(source, None)
                    if entry is None:
                        exhausted = True
                        break
                    number, batch = entry
                    signed = [pb.SignedEvent(event=event) for event in batch]
                    request = api.PublishStreamRequest(correlation_id=number, publish=api.PublishRequest(events=signed))
                    unanswered.append((request, batch))
                    outgoing.put(request)
                if not unanswered:
                    break
                answer = next(call, None)
                if answer is None:
                    break  # The node ended the stream in good order: go on with a new one.
                request, batch = unanswered.popleft()
                if answer.correlation_id != request.correlation_id:
                    raise RuntimeError(f"answer {answer.correlation_id} to request {request.correlation_id}")
                if answer.WhichOneof("answer") == "error":
                    problem = problem_of_status(answer.error)
                    if problem.retryable:
                        unanswered.append((request, batch))
                        backoff.wait(problem)
                        outgoing.put(request)
                    else:
                        yield batch, problem
                else:
                    backoff.reset()
                    yield batch, list(answer.response.results)
        except grpc.RpcError as error:
            problem = problem_of_call(error)
            if not problem.retryable:
                raise
            backoff.wait(problem)
        finally:
            outgoing.put(None)
            call.cancel()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--publisher", required=True, help="our SPIFFE ID, as in our certificate")
    parser.add_argument("containers", nargs="*", default=["MSKU9070323", "CSQU3054383"], help="what was discharged")
    arguments = parser.parse_args()
    with channel_from(arguments) as channel:
        events = [discharged(arguments.publisher, number, "031W", "MSK") for number in arguments.containers]
        try:
            for result in publish(EventServiceStub(channel), events):
                again = " (it was there already)" if result.duplicate else ""
                print(f"{result.event_id} is stored at {result.position}{again}")
        except grpc.RpcError as error:
            print(problem_of_call(error), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
