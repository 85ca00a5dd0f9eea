"""An example client on a durable subscription: the node keeps our place, so that there is nothing to keep on our side. What was answered as
settled never comes again, whatever happens to us, to the line or to the node; what was not may come twice.

    python durable_client.py --ca ca.pem --cert customs.pem --key customs.key --subscription holds
"""

from __future__ import annotations

import argparse
import queue
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import grpc
from tradelane.v1 import event_pb2 as pb
from tradelane.v1 import event_service_pb2 as api
from tradelane.v1 import subscription_service_pb2 as durable
from tradelane.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

from tradelane_client import Backoff, add_arguments, channel_from, problem_of_call

# The node takes a consumer of whom it hears nothing for 30 s for gone.
HEARTBEAT_S = 5.0
# How many events may be with us at once.
CREDIT = 50


class TryAgain(Exception):
    """An event failed, and shall come again; not before `delay`, nor before the subscription's own wait."""

    def __init__(self, reason: str, delay: timedelta | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class NeverPossible(Exception):
    """An event can never be processed: it becomes a dead letter at once."""


def create(
    stub: SubscriptionServiceStub, name: str, definition: durable.SubscriptionDefinition
) -> durable.Subscription:
    """Makes the subscription from the beginning of the log, or finds it as it is. To be called at every start."""
    request = durable.CreateSubscriptionRequest(name=name, definition=definition, start_at=api.START_AT_EARLIEST)
    return stub.CreateSubscription(request, timeout=30.0).subscription


def consume(
    stub: SubscriptionServiceStub,
    subscription: durable.Subscription,
    handle: Callable[[durable.Delivery], None],
    settled: Callable[[str, int], None] = lambda position, outcome: None,
    stopped: Callable[[], bool] = lambda: False,
    widened: Callable[[durable.VisibilityWidenings], None] | None = None,
) -> None:
    """Handles every event of the subscription (as `create` gave it), one after the other, for ever or until `stopped`. `handle` returns
    where the event is done, and raises TryAgain or NeverPossible where not; `settled` is told what the node answered, durably. `widened` is
    told what we see more of than before, again and again until it returns once: what was withheld until then does not come by itself,
    and is fetched by the subject. Raises what trying again cannot mend."""
    widened = widened or show_widened
    backoff = Backoff()
    while not stopped():
        line = _Line(subscription)
        try:
            for message in stub.Consume(iter(line)):
                kind = message.WhichOneof("message")
                if kind == "started":
                    if message.started.narrowed:
                        print("note: our grants show us less than we asked for", file=sys.stderr)
                elif kind == "deliveries":
                    for delivery in message.deliveries.deliveries:
                        # What comes after the wish to leave goes to others.
                        if not stopped() and line.is_to_be_processed(delivery):
                            line.settle(delivery, _process(handle, delivery))
                elif kind == "visibility_widened":
                    widened(message.visibility_widened)
                    line.has_dealt_with(message.visibility_widened.position)
                elif kind == "settled":
                    backoff.reset()
                    for position, outcome in line.answered(message.settled):
                        settled(position, outcome)
                if stopped():
                    # Leaves in order once everything is answered: what we have not begun goes to others.
                    line.leave()
        except grpc.RpcError as error:
            problem = problem_of_call(error)
            # ABORTED: somebody has moved the subscription to another place, and we go on from there.
            if not problem.retryable and problem.code != grpc.StatusCode.ABORTED:
                raise
            backoff.wait(problem)
        finally:
            line.close()


def _process(handle: Callable[[durable.Delivery], None], delivery: durable.Delivery) -> durable.Settlement:
    try:
        handle(delivery)
    except TryAgain as failure:
        reject = durable.Reject(reason=str(failure))
        if failure.delay is not None:
            reject.delay.FromTimedelta(failure.delay)
        return durable.Settlement(reject=reject)
    except NeverPossible as failure:
        return durable.Settlement(park=durable.Park(reason=str(failure)))
    return durable.Settlement(acknowledge=durable.Acknowledge())


class _Line:
    """What we say on one stream: first which subscription, then settlements, and a sign of life where there is nothing else to say."""

    def __init__(self, subscription: durable.Subscription) -> None:
        self._requests: queue.Queue[durable.ConsumeRequest | None] = queue.Queue()
        start = durable.ConsumeStart(name=subscription.name, credit=CREDIT)
        self._requests.put(durable.ConsumeRequest(start=start))
        self._unanswered: dict[int, list[str]] = {}
        self._last_id, self._leaving = 0, False
        self._is_ordered = subscription.definition.mode == durable.SUBSCRIPTION_MODE_ORDERED
        # In an ORDERED subscription, until a rejection is answered: its number, and the rejected position.
        self._rejection: tuple[int, str] | None = None

    def __iter__(self) -> Iterator[durable.ConsumeRequest]:
        while True:
            try:
                request = self._requests.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                request = durable.ConsumeRequest(heartbeat=durable.ConsumerHeartbeat())
            if request is None:
                return
            yield request

    def settle(self, delivery: durable.Delivery, settlement: durable.Settlement) -> None:
        self._last_id += 1
        settlement.correlation_id = self._last_id
        if self._is_ordered and settlement.WhichOneof("verb") == "reject":
            self._rejection = (self._last_id, delivery.event.position)
        settlement.deliveries.add(position=delivery.event.position, delivery_attempt=delivery.delivery_attempt)
        self._unanswered[self._last_id] = [delivery.event.position]
        self._requests.put(durable.ConsumeRequest(settlement=settlement))

    def has_dealt_with(self, position: str) -> None:
        self._last_id += 1
        verb = durable.AcknowledgeWidening()
        settlement = durable.Settlement(correlation_id=self._last_id, acknowledge_widening=verb)
        settlement.deliveries.add(position=position)
        self._unanswered[self._last_id] = [position]
        self._requests.put(durable.ConsumeRequest(settlement=settlement))

    def is_to_be_processed(self, delivery: durable.Delivery) -> bool:
        """False for what was on its way when we rejected something before it: the node has taken it back, and sends it again after the
        answer, behind the rejected event. Processed now it would be out of order."""
        if self._rejection is not None and delivery.event.position == self._rejection[1]:
            # It had gone back before our word came, which settles nothing then.
            self._rejection = None
        return self._rejection is None

    def answered(self, answer: durable.SettlementAnswer) -> list[tuple[str, int]]:
        if self._rejection is not None and answer.correlation_id == self._rejection[0]:
            self._rejection = None
        return list(zip(self._unanswered.pop(answer.correlation_id), answer.outcomes, strict=True))

    def leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._requests.put(durable.ConsumeRequest(credit=durable.ConsumeCredit(credit=0)))
        if not self._unanswered:
            self.close()

    def close(self) -> None:
        self._requests.put(None)


def show(delivery: durable.Delivery) -> None:
    """What a real client would hand to its own system, which had better know by the event's id what it has done before."""
    event = delivery.event.signed.event
    subjects = ", ".join(subject.value for subject in event.subjects)
    again = f" (attempt {delivery.delivery_attempt})" if delivery.delivery_attempt > 1 else ""
    print(
        f"{event.event_time.ToJsonString()} {event.WhichOneof('body')} {subjects} by {event.publisher}{again}",
        flush=True,
    )


def show_widened(told: durable.VisibilityWidenings) -> None:
    """A real client would now fetch the history of each subject, with EventService.GetTimeline."""
    for widening in told.widenings:
        print(f"note: from here on we see more of {widening.subject.value}", file=sys.stderr)
    if told.incomplete:
        print("note: and of others that are not named", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--subscription", default="clearances", help="the subscription's name")
    arguments = parser.parse_args()
    filters = [pb.EventFilter(types=["clearance", "hold"])]
    with channel_from(arguments) as channel:
        stub = SubscriptionServiceStub(channel)
        try:
            definition = durable.SubscriptionDefinition(filters=filters)
            consume(stub, create(stub, arguments.subscription, definition), show)
        except grpc.RpcError as error:
            print(problem_of_call(error), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
