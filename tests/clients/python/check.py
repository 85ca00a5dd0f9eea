"""Drives a running node with the Python examples and grpcio, over mutual TLS. Run by start_node.py, which sets TRADELANE_TEST_NODE."""

from __future__ import annotations

import tempfile
import threading
import unittest
import uuid
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tradelane.v1 import clearance_service_pb2 as clearance
from tradelane.v1 import event_pb2 as pb
from tradelane.v1 import event_service_pb2 as api
from tradelane.v1.clearance_service_pb2_grpc import ClearanceServiceStub
from tradelane.v1.event_service_pb2_grpc import EventServiceStub

import customs_client
import gate_client
import port_system
from node_under_test import CuttingProxy, NodeUnderTest
from tradelane_client import Problem, problem_of_call

NODE = NodeUnderTest()
PORT = NODE.participant("port").spiffe_id
CALL_TIMEOUT_S = 10.0
# Container numbers with right check digits (ISO 6346).
CONTAINERS = ["MSKU9070323", "CSQU3054383", "APZU4812090", "FCIU9908030"]


def voyage() -> str:
    """A voyage that no other check speaks of."""
    return f"V{uuid.uuid4().hex[:10].upper()}"


def moves(count: int, on: str) -> list[pb.Event]:
    return [port_system.discharged(PORT, CONTAINERS[i % len(CONTAINERS)], on, "MSK") for i in range(count)]


def of_voyage(value: str) -> pb.EventFilter:
    return pb.EventFilter(subjects=[pb.Subject(kind=pb.IDENTIFIER_KIND_VOYAGE, value=value)])


def listed(stub: EventServiceStub, event_filter: pb.EventFilter) -> list[pb.RecordedEvent]:
    """Everything that matches, oldest first, page by page."""
    request = api.ListEventsRequest(filters=[event_filter], order=api.LIST_ORDER_OLDEST_FIRST, page_size=100)
    events: list[pb.RecordedEvent] = []
    while True:
        page = stub.ListEvents(request, timeout=CALL_TIMEOUT_S)
        events += page.events
        if not page.next_page_token:
            return events
        request.page_token = page.next_page_token


class Publishing(unittest.TestCase):
    def setUp(self) -> None:
        self.channel = NODE.channel("port")
        self.addCleanup(self.channel.close)
        self.stub = EventServiceStub(self.channel)

    def refusal(self, events: list[pb.Event]) -> Problem:
        with self.assertRaises(grpc.RpcError) as raised:
            port_system.publish(self.stub, events, patience_s=0.0)
        return problem_of_call(raised.exception)

    def test_a_batch_is_stored_once_however_often_it_is_sent(self) -> None:
        batch = moves(3, voyage())
        first = port_system.publish(self.stub, batch)
        again = port_system.publish(self.stub, batch)
        self.assertEqual([r.duplicate for r in first], [False] * 3)
        self.assertEqual([r.duplicate for r in again], [True] * 3)
        self.assertEqual([r.position for r in first], [r.position for r in again])

    def test_the_same_content_in_other_bytes_is_the_same_event(self) -> None:
        event = moves(1, voyage())[0]
        port_system.publish(self.stub, [event])
        # Protobuf lets a serialiser write fields in any order: two halves of the event, the later one first.
        head, tail = pb.Event(), pb.Event()
        head.CopyFrom(event)
        tail.CopyFrom(event)
        for field, _ in event.ListFields():
            (head if field.number > 10 else tail).ClearField(field.name)
        reordered = tail.SerializeToString() + head.SerializeToString()
        signed = _length_delimited(1, _length_delimited(1, reordered))
        call = self.channel.unary_unary(
            "/tradelane.v1.EventService/Publish",
            request_serializer=lambda raw: raw,
            response_deserializer=api.PublishResponse.FromString,
        )
        self.assertNotEqual(reordered, event.SerializeToString())
        self.assertTrue(call(signed, timeout=CALL_TIMEOUT_S).results[0].duplicate)

    def test_an_id_is_not_taken_for_other_content(self) -> None:
        event = moves(1, voyage())[0]
        port_system.publish(self.stub, [event])
        event.handling.size_type = "22G1"
        problem = self.refusal([event])
        self.assertEqual(problem.code, grpc.StatusCode.ALREADY_EXISTS)
        self.assertEqual(problem.reason, "EVENT_ID_CONFLICT")

    def test_every_violation_comes_at_once_with_its_path(self) -> None:
        batch = moves(3, voyage())
        batch[1].subjects[0].value = "MSKU9070320"
        batch[2].places[0].un_locode = "pkkhi!"
        problem = self.refusal(batch)
        self.assertEqual(problem.code, grpc.StatusCode.INVALID_ARGUMENT)
        found = {(field, reason) for field, reason, _ in problem.violations}
        self.assertIn(("events[1].subjects[0].value", "CHECK_DIGIT_WRONG"), found)
        self.assertIn("events[2].places[0].un_locode", {field for field, _ in found})

    def test_with_skip_the_good_events_are_stored(self) -> None:
        on = voyage()
        batch = moves(2, on)
        batch[0].subjects[0].value = "MSKU9070320"
        request = api.PublishRequest(events=[pb.SignedEvent(event=e) for e in batch], on_invalid=api.ON_INVALID_SKIP)
        results = self.stub.Publish(request, timeout=CALL_TIMEOUT_S).results
        self.assertEqual(results[0].error.code, grpc.StatusCode.INVALID_ARGUMENT.value[0])
        self.assertEqual(results[1].error.code, 0)
        self.assertEqual([e.signed.event.event_id for e in listed(self.stub, of_voyage(on))], [batch[1].event_id])

    def test_nobody_publishes_in_anothers_name(self) -> None:
        event = moves(1, voyage())[0]
        event.publisher = NODE.participant("customs").spiffe_id
        problem = self.refusal([event])
        self.assertEqual(problem.code, grpc.StatusCode.PERMISSION_DENIED)
        self.assertEqual(problem.reason, "PUBLISHER_MISMATCH")

    def test_who_has_no_grant_publishes_nothing(self) -> None:
        with NODE.channel("stranger") as channel:
            event = moves(1, voyage())[0]
            event.publisher = NODE.participant("stranger").spiffe_id
            with self.assertRaises(grpc.RpcError) as raised:
                port_system.publish(EventServiceStub(channel), [event])
            self.assertEqual(raised.exception.code(), grpc.StatusCode.PERMISSION_DENIED)
            self.assertNotEqual(problem_of_call(raised.exception).reason, "")

    def test_who_shows_no_certificate_does_not_get_in(self) -> None:
        credentials = grpc.ssl_channel_credentials(root_certificates=NODE.ca_file.read_bytes())
        with grpc.secure_channel(NODE.address, credentials) as channel:
            with self.assertRaises(grpc.RpcError) as raised:
                EventServiceStub(channel).ListEvents(api.ListEventsRequest(), timeout=CALL_TIMEOUT_S)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def test_a_stream_that_is_cut_again_and_again_loses_and_doubles_nothing(self) -> None:
        on = voyage()
        batches = [moves(5, on) for _ in range(400)]
        proxy = CuttingProxy(NODE.address, cut_after_bytes=120_000)
        self.addCleanup(proxy.close)
        with NODE.channel("port", proxy.address) as channel:
            outcomes = list(port_system.publish_stream(EventServiceStub(channel), batches))
        self.assertGreaterEqual(proxy.cuts, 3, "the proxy must have cut, else this shows nothing")
        refused = [outcome for _, outcome in outcomes if isinstance(outcome, Problem)]
        self.assertEqual(refused, [])
        answered = [result.event_id for _, results in outcomes for result in results]
        sent = [event.event_id for batch in batches for event in batch]
        self.assertEqual(answered, sent)
        stored = [recorded.signed.event.event_id for recorded in listed(self.stub, of_voyage(on))]
        self.assertEqual(sorted(stored), sorted(sent))

    def test_a_refused_request_does_not_end_the_stream(self) -> None:
        on = voyage()
        batches = [moves(1, on) for _ in range(3)]
        batches[1][0].subjects[0].value = "MSKU9070320"
        outcomes = [outcome for _, outcome in port_system.publish_stream(self.stub, batches)]
        self.assertIsInstance(outcomes[0], list)
        self.assertIsInstance(outcomes[1], Problem)
        self.assertIsInstance(outcomes[2], list)


class Following(unittest.TestCase):
    def test_a_follower_that_is_cut_and_restarted_sees_every_event_in_order(self) -> None:
        on = voyage()
        proxy = CuttingProxy(NODE.address, cut_after_bytes=250_000)
        self.addCleanup(proxy.close)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        position = customs_client.PositionFile(Path(directory.name) / "position.txt")
        expected = 3000
        # A dictionary keeps the order in which its keys came first; an event may come twice, and then changes nothing.
        seen: dict[str, str] = {}

        def handle(recorded: pb.RecordedEvent) -> None:
            seen.setdefault(recorded.signed.event.event_id, recorded.position)

        # Two lives of the client, the second one from the position that the first one left on disk.
        def lives() -> None:
            for until in (expected // 3, expected):
                with NODE.channel("customs", proxy.address) as channel:
                    customs_client.follow(
                        EventServiceStub(channel),
                        [of_voyage(on)],
                        position,
                        handle,
                        stopped=lambda until=until: len(seen) >= until,
                    )

        follower = threading.Thread(target=lives, name="follower", daemon=True)
        follower.start()
        with NODE.channel("port") as channel:
            sent = [event for _ in range(300) for event in moves(10, on)]
            batches = [sent[i : i + 10] for i in range(0, len(sent), 10)]
            for _, outcome in port_system.publish_stream(EventServiceStub(channel), batches):
                self.assertIsInstance(outcome, list)
        follower.join(timeout=60.0)
        self.assertFalse(follower.is_alive(), f"only {len(seen)} of {expected} came")
        self.assertEqual(list(seen), [event.event_id for event in sent])
        self.assertNotEqual(position.load(), "")
        self.assertGreaterEqual(proxy.cuts, 1, "the proxy must have cut, else this shows nothing")


def customs_says(number: str, declaration: str, minutes: int, **body: object) -> pb.Event:
    """A step or a hold of customs about a container under a declaration."""
    event = port_system.discharged(PORT, number, voyage(), "MSK")
    event.event_id = str(uuid.uuid4())
    event.publisher = NODE.participant("customs").spiffe_id
    del event.subjects[:], event.places[:]
    event.ClearField("handling")
    event.subjects.add(kind=pb.IDENTIFIER_KIND_DECLARATION, value=declaration, issuer="PK")
    event.subjects.add(kind=pb.IDENTIFIER_KIND_CONTAINER, value=number)
    event.places.add(role=pb.PLACE_ROLE_OFFICE, un_locode="PKKHI")
    event.event_time.seconds += 60 * (minutes - 60)
    event.MergeFrom(pb.Event(**body))
    return event


class Clearing(unittest.TestCase):
    def test_a_gate_hears_of_each_change_once_over_a_line_that_is_cut(self) -> None:
        number, declaration = "TLNU0000010", f"D-{uuid.uuid4().hex[:8].upper()}"
        subject = gate_client.container(number)
        held = {"hold_id": f"H-{declaration}", "kind": pb.HOLD_KIND_CUSTOMS}
        step = pb.Clearance
        all_that_there_is = pb.Association(
            step=pb.ASSOCIATION_STEP_ATTACHED,
            parent=subject,
            children=[pb.Subject(kind=pb.IDENTIFIER_KIND_DECLARATION, value=declaration, issuer="PK")],
            complete=True,
        )
        story = [
            customs_says(number, declaration, 1, association=all_that_there_is),
            customs_says(number, declaration, 2, clearance=step(step=pb.CLEARANCE_STEP_ACCEPTED)),
            customs_says(number, declaration, 3, hold=pb.Hold(step=pb.HOLD_STEP_PLACED, **held)),
            customs_says(number, declaration, 4, clearance=step(step=pb.CLEARANCE_STEP_RELEASED)),
            customs_says(number, declaration, 5, hold=pb.Hold(step=pb.HOLD_STEP_LIFTED, **held)),
            customs_says(number, declaration, 6, clearance=step(step=pb.CLEARANCE_STEP_RELEASE_REVOKED)),
        ]
        with NODE.channel("port") as channel:
            self.assertEqual(
                gate_client.may_leave(ClearanceServiceStub(channel), subject), (False, "nothing is known of it")
            )
        proxy = CuttingProxy(NODE.address, cut_after_bytes=20_000)
        self.addCleanup(proxy.close)
        told: list[clearance.ClearanceChanges] = []

        def gate() -> None:
            position = ""
            # Each life of the client goes on from where the one before ended.
            for until in (2, len(story)):
                with NODE.channel("port", proxy.address) as channel:
                    stub = ClearanceServiceStub(channel)
                    position = gate_client.follow(
                        stub, [subject], position, told.append, stopped=lambda until=until: len(told) >= until
                    )

        watcher = threading.Thread(target=gate, name="gate", daemon=True)
        watcher.start()
        with NODE.channel("customs") as channel:
            for event in story:
                port_system.publish(EventServiceStub(channel), [event])
        watcher.join(timeout=60.0)
        self.assertFalse(watcher.is_alive(), f"only {len(told)} of {len(story)} changes came")
        # The port may not read holds: that one is open it is told, and nothing else of it.
        causes = ["" if event.HasField("hold") else event.event_id for event in story]
        self.assertEqual([t.event.signed.event.event_id for t in told], causes)
        self.assertEqual([t.changes[0].after.released for t in told], [False, False, False, False, True, False])
        self.assertEqual([t.changes[0].after.withheld_holds for t in told], [0, 0, 1, 1, 0, 0])
        with NODE.channel("port") as channel:
            released, why = gate_client.may_leave(ClearanceServiceStub(channel), subject)
            self.assertEqual((released, why), (False, "not_released"))
            page = ClearanceServiceStub(channel).ListClearances(
                clearance.ListClearancesRequest(states=[pb.CLEARANCE_STEP_RELEASE_REVOKED]), timeout=CALL_TIMEOUT_S
            )
            self.assertIn(declaration, [row.subject.value for row in page.clearances])


class Looking(unittest.TestCase):
    def test_reflection_names_and_describes_the_services(self) -> None:
        with NODE.channel("port") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = set(database.get_services())
            self.assertLessEqual(
                {
                    "tradelane.v1.ClearanceService",
                    "tradelane.v1.EventService",
                    "tradelane.v1.NodeService",
                    "grpc.health.v1.Health",
                },
                services,
            )
            service = DescriptorPool(database).FindServiceByName("tradelane.v1.EventService")
            self.assertIn("GetTimeline", service.methods_by_name)

    def test_health_says_serving_for_each_service(self) -> None:
        with NODE.channel("port") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in (
                "",
                "tradelane.v1.ClearanceService",
                "tradelane.v1.EventService",
                "tradelane.v1.NodeService",
            ):
                answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_TIMEOUT_S)
                self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING, service)

    def test_a_timeline_is_in_order_of_event_time(self) -> None:
        with NODE.channel("port") as channel:
            stub = EventServiceStub(channel)
            batch = moves(4, voyage())
            for hours, event in zip((4, 1, 3, 2), batch, strict=False):
                del event.subjects[0]
                event.subjects[0].role = pb.SUBJECT_ROLE_PRIMARY
                event.subjects.insert(0, pb.Subject(kind=pb.IDENTIFIER_KIND_CONTAINER, value="OOLU4293959"))
                event.event_time.seconds -= hours * 3600
            port_system.publish(stub, batch)
            subject = batch[0].subjects[1]
            request = api.GetTimelineRequest(subject=pb.Subject(kind=subject.kind, value=subject.value))
            timeline = stub.GetTimeline(request, timeout=CALL_TIMEOUT_S)
            ids = [entry.event.signed.event.event_id for entry in timeline.entries]
            self.assertEqual(ids, [batch[i].event_id for i in (0, 2, 3, 1)])


def _length_delimited(number: int, payload: bytes) -> bytes:
    """A field of bytes as protobuf writes it."""
    length, varint = len(payload), bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return bytes([number << 3 | 2]) + bytes(varint) + payload


if __name__ == "__main__":
    unittest.main(verbosity=2)
