"""Kills the node again and again under a durable consumer: nothing is lost, order is kept, and nothing comes again that the node has said
to be settled. Run by start_node.py, which starts the node anew after each kill."""

from __future__ import annotations

import os
import signal
import threading
import time
import unittest
import uuid
from collections.abc import Callable
from datetime import timedelta

import grpc
from tradelane.v1 import event_pb2 as pb
from tradelane.v1 import event_service_pb2 as api
from tradelane.v1 import subscription_service_pb2 as durable
from tradelane.v1.event_service_pb2_grpc import EventServiceStub
from tradelane.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

import durable_client
import port_system
from node_under_test import NodeUnderTest

NODE = NodeUnderTest()
PORT = NODE.participant("port").spiffe_id
CALL_TIMEOUT_S = 10.0
# All of it takes some seconds; a machine that is busy with other things takes longer.
PATIENCE_S = 120.0
EVENTS, KILLS = 600, 3
# How far a consumer comes beyond the place of a kill before she waits for it: fewer events than she may have with her at once.
BEYOND_KILL = durable_client.CREDIT // 2


def moves(count: int, on: str) -> list[pb.Event]:
    return [port_system.discharged(PORT, "MSKU9070323", on, "MSK") for _ in range(count)]


def of_voyage(value: str) -> durable.SubscriptionDefinition:
    subject = pb.Subject(kind=pb.IDENTIFIER_KIND_VOYAGE, value=value)
    return durable.SubscriptionDefinition(filters=[pb.EventFilter(subjects=[subject])])


def names_broker(subject: pb.Subject) -> pb.Event:
    """Customs says that the broker is a party of it."""
    event = port_system.discharged(NODE.participant("customs").spiffe_id, "MSKU9070323", subject.value, subject.issuer)
    del event.places[:]
    del event.subjects[:]
    event.subjects.append(subject)
    event.association.step = pb.ASSOCIATION_STEP_ATTACHED
    event.association.parent.CopyFrom(subject)
    event.association.children.add(kind=pb.IDENTIFIER_KIND_CONTAINER, value="MSKU9070323")
    broker = NODE.participant("trader").spiffe_id
    event.association.parties.add(role=pb.PARTY_ROLE_DECLARANT, participant=broker)
    return event


def kill_node() -> None:
    """Without a word, as the kernel does it; returns when another node process is there."""
    before = NODE.process_id()
    os.kill(before, signal.SIGKILL)
    give_up_at = time.monotonic() + PATIENCE_S
    while NODE.process_id() == before and time.monotonic() < give_up_at:
        time.sleep(0.02)


class Consuming(unittest.TestCase):
    def setUp(self) -> None:
        self.on = f"V{uuid.uuid4().hex[:10].upper()}"
        self.name = f"s-{uuid.uuid4().hex[:10]}"
        self.channel = NODE.channel("customs")
        self.addCleanup(self.channel.close)
        self.stub = SubscriptionServiceStub(self.channel)

    def publish(self, events: list[pb.Event]) -> None:
        """Publishes in batches of ten, each again until it is stored: publishing is idempotent."""
        with NODE.channel("port") as channel:
            for start in range(0, len(events), 10):
                port_system.publish(EventServiceStub(channel), events[start : start + 10], patience_s=PATIENCE_S)

    def run_beside(self, work: threading.Thread) -> None:
        work.join(timeout=PATIENCE_S)
        self.assertFalse(work.is_alive(), "it did not come to its end")

    def test_a_consumer_loses_nothing_and_gets_nothing_again_that_was_settled(self) -> None:
        subscription = durable_client.create(self.stub, self.name, of_voyage(self.on))
        sent = moves(EVENTS, self.on)
        # A dictionary keeps the order in which its keys came first.
        handled: dict[str, str] = {}
        settled: set[str] = set()
        again: list[str] = []
        kills = [(kill * EVENTS // (KILLS + 1), threading.Event()) for kill in range(1, KILLS + 1)]

        def handle(delivery: durable.Delivery) -> None:
            if delivery.event.position in settled:
                again.append(delivery.event.position)
            handled.setdefault(delivery.event.position, delivery.event.signed.event.event_id)
            # No kill comes later than in the middle: a consumer that had handled everything would stop, and what she was not answered
            # would rightly come again to the next.
            for place, came in kills:
                if len(handled) >= place + BEYOND_KILL and not came.wait(PATIENCE_S):
                    raise AssertionError(f"the kill at {place} did not come")

        def answered(position: str, outcome: int) -> None:
            if outcome in (durable.SETTLEMENT_OUTCOME_DONE, durable.SETTLEMENT_OUTCOME_ALREADY_SETTLED):
                settled.add(position)

        def consumer() -> None:
            durable_client.consume(self.stub, subscription, handle, answered, stopped=lambda: len(handled) >= EVENTS)

        consuming = threading.Thread(target=consumer, name="consumer", daemon=True)
        publishing = threading.Thread(target=self.publish, args=(sent,), name="publisher", daemon=True)
        consuming.start()
        publishing.start()
        for place, came in kills:
            give_up_at = time.monotonic() + PATIENCE_S
            while len(handled) < place and time.monotonic() < give_up_at:
                time.sleep(0.001)
            self.assertTrue(place <= len(handled) < EVENTS, "the kill must come in the middle, else this shows nothing")
            kill_node()
            came.set()
        self.run_beside(publishing)
        self.run_beside(consuming)
        self.assertEqual(list(handled.values()), [event.event_id for event in sent])
        self.assertEqual(again, [])
        # What a kill took was the answers on their way, at most as many as the consumer had: all else was settled once.
        self.assertLessEqual(settled, set(handled))
        self.assertGreaterEqual(len(settled), EVENTS - KILLS * durable_client.CREDIT)
        # Nor does another consumer get anything, after one more kill.
        kill_node()
        after = moves(1, self.on)
        self.publish(after)
        last: list[str] = []

        def one_more() -> None:
            durable_client.consume(
                self.stub,
                subscription,
                lambda delivery: last.append(delivery.event.signed.event.event_id),
                stopped=lambda: after[0].event_id in last,
            )

        consuming = threading.Thread(target=one_more, name="consumer", daemon=True)
        consuming.start()
        self.run_beside(consuming)
        self.assertEqual(last, [after[0].event_id])

    def test_attempts_and_dead_letters_outlive_the_node(self) -> None:
        definition = of_voyage(self.on)
        definition.mode = durable.SUBSCRIPTION_MODE_SHARED
        definition.attempts_max = 3
        definition.backoff_min.FromMilliseconds(50)
        definition.backoff_max.FromMilliseconds(50)
        subscription = durable_client.create(self.stub, self.name, definition)
        fails, hopeless, good = sent = moves(3, self.on)
        self.publish(sent)
        attempts: list[int] = []
        done: set[str] = set()
        ids: dict[str, str] = {}

        def handle(delivery: durable.Delivery) -> None:
            event_id = delivery.event.signed.event.event_id
            ids[delivery.event.position] = event_id
            if event_id == hopeless.event_id:
                raise durable_client.NeverPossible("nobody here knows the voyage")
            if event_id == fails.event_id:
                attempts.append(delivery.delivery_attempt)
                raise durable_client.TryAgain("the system behind is down")

        def answered(position: str, outcome: int) -> None:
            self.assertEqual(outcome, durable.SETTLEMENT_OUTCOME_DONE)
            done.add(f"{ids[position]} {len(attempts)}" if ids[position] == fails.event_id else ids[position])

        def until(enough: int) -> None:
            stopped = lambda: len(attempts) >= enough and {hopeless.event_id, good.event_id} <= done  # noqa: E731
            consuming = threading.Thread(
                target=durable_client.consume,
                args=(self.stub, subscription, handle, answered, stopped),
                name="consumer",
                daemon=True,
            )
            consuming.start()
            self.run_beside(consuming)

        until(2)
        kill_node()
        until(3)
        self.assertEqual(attempts, [1, 2, 3], "an attempt that was counted stays counted")
        letters = {}
        give_up_at = time.monotonic() + PATIENCE_S
        while len(letters) < 2 and time.monotonic() < give_up_at:
            answer = self.stub.ListDeadLetters(
                durable.ListDeadLettersRequest(name=self.name), timeout=CALL_TIMEOUT_S, wait_for_ready=True
            )
            letters = {letter.event_id: letter for letter in answer.dead_letters}
        self.assertEqual(set(letters), {fails.event_id, hopeless.event_id})
        self.assertEqual((letters[fails.event_id].attempts, letters[fails.event_id].parked), (3, False))
        self.assertEqual(letters[fails.event_id].reason, "the system behind is down")
        self.assertEqual(
            (letters[hopeless.event_id].parked, letters[hopeless.event_id].reason),
            (True, "nobody here knows the voyage"),
        )

    def test_what_was_rejected_comes_again_before_what_follows_it_through_a_kill(self) -> None:
        definition = of_voyage(self.on)
        definition.attempts_max = 3
        definition.backoff_min.FromMilliseconds(50)
        definition.backoff_max.FromMilliseconds(50)
        subscription = durable_client.create(self.stub, self.name, definition)
        events = moves(20, self.on)
        sent = [event.event_id for event in events]
        fails, hopeless, recovers = sent[4], sent[9], sent[14]
        self.publish(events)
        calls: list[str] = []

        def handle(delivery: durable.Delivery) -> None:
            event_id = delivery.event.signed.event.event_id
            calls.append(event_id)
            if event_id == hopeless:
                raise durable_client.NeverPossible("nobody here knows the voyage")
            if event_id == fails:
                raise durable_client.TryAgain("the system behind is down")
            if event_id == recovers and delivery.delivery_attempt < 2:
                raise durable_client.TryAgain("the system behind is starting", timedelta(milliseconds=20))

        def until(stopped: Callable[[], bool]) -> None:
            consuming = threading.Thread(
                target=durable_client.consume,
                args=(self.stub, subscription, handle),
                kwargs={"stopped": stopped},
                name="consumer",
                daemon=True,
            )
            consuming.start()
            self.run_beside(consuming)

        until(lambda: calls.count(fails) == 2)
        kill_node()
        until(lambda: sent[-1] in calls)
        times = {fails: 3, recovers: 2}
        self.assertEqual(calls, [event_id for event_id in sent for _ in range(times.get(event_id, 1))])

    def test_what_was_withheld_is_told_through_kills_until_it_is_dealt_with(self) -> None:
        channel = NODE.channel("trader")
        self.addCleanup(channel.close)
        stub = SubscriptionServiceStub(channel)
        subscription = durable_client.create(stub, self.name, of_voyage(self.on))
        withheld, opened = moves(2, self.on)
        self.publish([withheld])
        voyage = pb.Subject(kind=pb.IDENTIFIER_KIND_VOYAGE, value=self.on, issuer="MSK")
        with NODE.channel("customs") as customs:
            port_system.publish(EventServiceStub(customs), [names_broker(voyage)], patience_s=PATIENCE_S)
        told: list[str] = []
        settled: list[str] = []
        handled: list[str] = []

        def widened(more: durable.VisibilityWidenings) -> None:
            told.append(more.position)
            if len(told) == 1:
                kill_node()  # Our answer does not come through: this is told again.
                return
            request = api.GetTimelineRequest(subject=more.widenings[0].subject)
            timeline = EventServiceStub(channel).GetTimeline(request, timeout=CALL_TIMEOUT_S, wait_for_ready=True)
            handled.extend(entry.event.signed.event.event_id for entry in timeline.entries)

        def until(stopped: Callable[[], bool]) -> None:
            arguments = {
                "settled": lambda position, _: settled.append(position),
                "stopped": stopped,
                "widened": widened,
            }
            consuming = threading.Thread(
                target=durable_client.consume,
                args=(stub, subscription, lambda delivery: handled.append(delivery.event.signed.event.event_id)),
                kwargs=arguments,
                name="consumer",
                daemon=True,
            )
            consuming.start()
            self.run_beside(consuming)

        until(lambda: len(told) == 2 and told[1] in settled)
        self.assertIn(withheld.event_id, handled)
        kill_node()
        self.publish([opened])
        until(lambda: opened.event_id in handled)
        self.assertEqual(len(told), 2, "what was dealt with is not told again")

    def test_anothers_subscription_is_as_if_it_did_not_exist(self) -> None:
        durable_client.create(self.stub, self.name, of_voyage(self.on))
        with NODE.channel("port") as channel:
            stub = SubscriptionServiceStub(channel)
            for call, request in (
                (stub.GetSubscription, durable.GetSubscriptionRequest(name=self.name)),
                (stub.DeleteSubscription, durable.DeleteSubscriptionRequest(name=self.name)),
            ):
                with self.assertRaises(grpc.RpcError) as raised:
                    call(request, timeout=CALL_TIMEOUT_S)
                self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)
            self.assertEqual(list(stub.ListSubscriptions(durable.ListSubscriptionsRequest()).subscriptions), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
