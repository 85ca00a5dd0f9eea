"""Publishes messages that nobody here wrote, each as its own port, carrier or customs agency would, reads timelines and port calls back,
and reports how many events each kind gave, what the node refused, and what an event cannot say. Needs a node (start_node.py) and the
reference data (../shared/data, or TRADELANE_SHARED_DATA); without the data it says so and passes.

    python run.py --map-only   maps and reports without a node"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path

from tradelane.v1 import clearance_service_pb2 as clearance_api
from tradelane.v1 import event_pb2 as pb
from tradelane.v1 import event_service_pb2 as api
from tradelane.v1.clearance_service_pb2_grpc import ClearanceServiceStub
from tradelane.v1.event_service_pb2_grpc import EventServiceStub

import coarri
import iftsai
import port_calls
import wco
from model import Mapped, Mapping, SourceFile
from node_under_test import NodeUnderTest
from tradelane_client import problem_of_status

BATCH = 200
CALL_TIMEOUT_S = 30.0
# How many events these files give, how many of them say again what another file said (the same response with other comments in its XML),
# and how many a node must refuse: three say that something has happened tomorrow, one bears the number of an earlier message and says
# something else.
EVENTS_EXPECTED = 400
DUPLICATES_EXPECTED = 5
REFUSED_EXPECTED = {"INVALID_ARGUMENT": 3, "ALREADY_EXISTS": 1}
# Participants by what they publish; names of start_node.py.
PUBLISHERS = ("terminal", "carrier", "port", "customs", "trader")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map-only", action="store_true", help="map and report, publish nothing")
    arguments = parser.parse_args()
    repository = Path(__file__).resolve().parents[3]
    data = Path(os.environ.get("TRADELANE_SHARED_DATA", repository.parent / "shared" / "data"))
    if not data.is_dir():
        print(f"SKIPPED: no reference data at {data}; name its folder in TRADELANE_SHARED_DATA")
        return 0
    if arguments.map_only:
        names = {name: f"spiffe://{name}.example/system" for name in PUBLISHERS}
        report(map_all(data, names), {}, [])
        return 0
    node = NodeUnderTest()
    mapping = map_all(data, {name: node.participant(name).spiffe_id for name in PUBLISHERS})
    stored, refused, duplicates = publish_all(node, mapping.events)
    report(mapping, stored, refused)
    faults = read_back(node, mapping, stored)
    codes = Counter(code for _, code, _ in refused)
    print(f"said again, and stored once: {duplicates}")
    found, expected = (
        (len(mapping.events), duplicates, codes),
        (EVENTS_EXPECTED, DUPLICATES_EXPECTED, REFUSED_EXPECTED),
    )
    if found != expected:
        faults.append(f"events, duplicates and refused are {found}; expected {expected}")
    for fault in faults:
        print(f"FAULT: {fault}")
    return 1 if faults else 0


def map_all(data: Path, publishers: dict[str, str]) -> Mapping:
    """Every file, each by its own mapper, in the order in which its events are to be published."""
    result = Mapping()
    for path in sorted(data.glob("edifact/*COARRI*.edi")):
        result.extend(coarri.map_file(source_file(data, path, "EDIFACT:D.95B:COARRI"), publishers["terminal"]))
    for path in sorted(data.glob("edifact/*IFTSAI*.edi")):
        result.extend(iftsai.map_file(source_file(data, path, "EDIFACT:D.99B:IFTSAI"), publishers["carrier"]))
    for path in sorted(data.glob("portcall/**/*.json")):
        if not path.name.endswith("_schema.json"):
            result.extend(port_calls.map_file(source_file(data, path, "PORTCALL:3"), publishers["port"]))
    agency = wco.Agency(publishers["customs"], publishers["trader"], publishers["terminal"])
    root = data / "customs" / "wco-dms"
    for folder in [root / "notifications", *sorted((root / "scenarios").iterdir())]:
        files = sorted(folder.rglob("*.xml"))
        result.extend(wco.map_scenario([source_file(data, path, "") for path in files], agency))
    return result


def source_file(data: Path, path: Path, standard: str) -> SourceFile:
    return SourceFile(path, str(path.relative_to(data)), standard, path.read_bytes())


def publish_all(
    node: NodeUnderTest, events: list[Mapped]
) -> tuple[dict[str, api.PublishResult], list[tuple[Mapped, str, list[str]]], int]:
    """Publishes each event by its own participant, in order, leaving out what is refused: results by event_id, the refusals, and how many
    events were stored already."""
    stored: dict[str, api.PublishResult] = {}
    refused: list[tuple[Mapped, str, list[str]]] = []
    duplicates = 0
    for name in PUBLISHERS:
        publisher = node.participant(name).spiffe_id
        mine = [mapped for mapped in events if mapped.publisher == publisher]
        with node.channel(name) as channel:
            stub = EventServiceStub(channel)
            for start in range(0, len(mine), BATCH):
                batch = mine[start : start + BATCH]
                request = api.PublishRequest(
                    events=[pb.SignedEvent(event=mapped.event) for mapped in batch], on_invalid=api.ON_INVALID_SKIP
                )
                for mapped, result in zip(batch, stub.Publish(request, timeout=CALL_TIMEOUT_S).results, strict=True):
                    if result.HasField("error"):
                        problem = problem_of_status(result.error)
                        reasons = [f"{field}: {what}" for field, _, what in problem.violations] or [problem.message]
                        refused.append((mapped, problem.code.name, reasons))
                    else:
                        stored.setdefault(mapped.event.event_id, result)
                        duplicates += result.duplicate
    return stored, refused, duplicates


def read_back(node: NodeUnderTest, mapping: Mapping, stored: dict[str, api.PublishResult]) -> list[str]:
    """Asks as a customs officer would who sees everything: is each subject's history what was published, in order of event time?"""
    faults: list[str] = []
    events = {m.event.event_id: m.event for m in mapping.events if m.event.event_id in stored}
    by_subject: dict[tuple[int, str], set[str]] = defaultdict(set)
    for event_id, event in events.items():
        for subject in event.subjects:
            if subject.kind in (pb.IDENTIFIER_KIND_CONTAINER, pb.IDENTIFIER_KIND_MRN, pb.IDENTIFIER_KIND_UCR):
                by_subject[subject.kind, subject.value].add(event_id)
    calls = {s.value: s.issuer for e in events.values() for s in e.subjects if s.kind == pb.IDENTIFIER_KIND_PORT_CALL}
    rows = 0
    with node.channel("customs") as channel:
        stub = EventServiceStub(channel)
        for (kind, value), expected in by_subject.items():
            faults += check_timeline(stub, pb.Subject(kind=kind, value=value), expected)
        for value, issuer in sorted(calls.items()):
            call = pb.Subject(kind=pb.IDENTIFIER_KIND_PORT_CALL, value=value, issuer=issuer)
            answer = stub.GetPortCall(api.GetPortCallRequest(subject=call), timeout=CALL_TIMEOUT_S)
            rows += len(answer.rows)
            if not answer.rows:
                faults.append(f"port call {value} has no row")
        declarations = [
            pb.Subject(kind=kind, value=value) for kind, value in by_subject if kind == pb.IDENTIFIER_KIND_MRN
        ]
        faults += check_clearances(ClearanceServiceStub(channel), declarations)
    print(
        f"\nread back: {len(by_subject)} timelines, {len(calls)} port calls with {rows} rows, "
        f"{len(declarations)} clearances, {len(faults)} faults"
    )
    return faults


def check_clearances(stub: ClearanceServiceStub, declarations: list[pb.Subject]) -> list[str]:
    """What a customs system really sent is no impossible move of any declaration."""
    faults = []
    for declaration in declarations:
        answer = stub.GetClearance(clearance_api.GetClearanceRequest(subject=declaration), timeout=CALL_TIMEOUT_S)
        for anomaly in (one for lifecycle in answer.clearance.lifecycles for one in lifecycle.anomalies):
            steps = [pb.ClearanceStep.Name(step) for step in (getattr(anomaly, "from"), anomaly.to)]
            faults.append(f"declaration {declaration.value} moves from {steps[0]} to {steps[1]}")
    return faults


def check_timeline(stub: EventServiceStub, subject: pb.Subject, expected: set[str]) -> list[str]:
    """A timeline without associated subjects holds exactly the events of its subject, in order."""
    request = api.GetTimelineRequest(subject=subject, exclude_associated=True, page_size=1000)
    entries = stub.GetTimeline(request, timeout=CALL_TIMEOUT_S).entries
    found = [entry.event.signed.event for entry in entries]
    faults = []
    if {event.event_id for event in found} != expected or len(found) != len(expected):
        faults.append(f"timeline of {subject.value} has {len(found)} events instead of {len(expected)}")
    keys = [(event.event_time.ToNanoseconds(), event.created_time.ToNanoseconds(), event.event_id) for event in found]
    if keys != sorted(keys):
        faults.append(f"timeline of {subject.value} is not in order of event time")
    return faults


def report(
    mapping: Mapping, stored: dict[str, api.PublishResult], refused: list[tuple[Mapped, str, list[str]]]
) -> None:
    """The table that the people who keep the event model read."""
    made = Counter(mapped.kind for mapped in mapping.events)
    left_out = {id(mapped) for mapped, _, _ in refused}
    kept = Counter(mapped.kind for mapped in mapping.events if stored and id(mapped) not in left_out)
    denied = Counter(mapped.kind for mapped, _, _ in refused)
    print(f"{'kind':40} {'made':>6} {'stored':>7} {'refused':>8}")
    for kind in sorted(made):
        print(f"{kind:40} {made[kind]:6} {kept[kind]:7} {denied[kind]:8}")
    print(f"{f'all, of {mapping.files} files':40} {len(mapping.events):6} {sum(kept.values()):7} {len(refused):8}")
    if refused:
        print("\nrefused:")
        for mapped, code, reasons in refused:
            print(f"  {mapped.file}: {code}: {'; '.join(reasons)}")
    print("\nwhat an event cannot say:")
    for what, examples in sorted(mapping.unsaid.items(), key=lambda item: -len(item[1])):
        print(f"  {len(examples):4} {what}\n       such as {examples[0]}")


if __name__ == "__main__":
    sys.exit(main())
