"""Maps IFTSAI, a carrier's schedule of a voyage (UN/EDIFACT D.99B, message type TS2), as the carrier's own engineer would: an arrival
and a departure for each port of call, all of them estimates."""

from __future__ import annotations

from datetime import UTC

from tradelane.v1 import event_pb2 as pb

import edifact
from edifact import Message, Segment
from model import Mapped, Mapping, SourceFile, envelope, local, subject

STEPS = {"132": pb.MOVEMENT_STEP_ARRIVED, "133": pb.MOVEMENT_STEP_DEPARTED}
# LOC 3227: the port that the schedule is sent to, the ports before it and those after it.
CALLS = {"9": "this call", "94": "earlier call", "152": "later call"}


def map_file(file: SourceFile, publisher: str) -> Mapping:
    """Maps every IFTSAI of an interchange."""
    result = Mapping(files=1)
    interchange = edifact.read(file.content)
    for fault in interchange.faults:
        result.cannot_say("envelope at fault", f"{file.name}: {fault}")
    for message in interchange.messages:
        if message.kind == "IFTSAI":
            _map_message(file, message, publisher, result)
    return result


def _map_message(file: SourceFile, message: Message, publisher: str, result: Mapping) -> None:
    begin = next(s for s in message.segments if s.tag == "BGM")
    transport = next(s for s in message.segments if s.tag == "TDT")
    charterer = next((s.get(3) for s in message.segments if s.tag == "FTX" and s.get(0) == "AAI"), "")
    source = file.source(begin.get(1))
    assert message.prepared is not None, "a schedule that nobody dated cannot replace an earlier one"
    # UNB bears no zone either, and a carrier has no place: read as UTC.
    created = message.prepared.replace(tzinfo=UTC)
    if transport.get(7, 3):
        result.cannot_say("a vessel's name (its call sign is said)", f"{transport.get(7)}: {transport.get(7, 3)}")
    call: Segment | None = None
    for segment in message.segments:
        if segment.tag == "LOC":
            call = segment if segment.get(0) in CALLS else None
        elif segment.tag == "DTM" and call is not None and segment.get(0) in STEPS:
            moment = edifact.date_and_time(segment.get(0, 1))
            if moment is None:
                result.cannot_say("a time without a value", f"{file.name}: {call.get(1)}")
                continue
            port = call.get(1)
            event = envelope(
                source=source,
                publisher=publisher,
                ids=(message.sender, message.reference, port, segment.get(0)),
                event_time=local(moment, port),
                created_time=created,
                classifier=pb.CLASSIFIER_ESTIMATED,
                precision=pb.TIME_PRECISION_MINUTE,
                subjects=[
                    subject(pb.IDENTIFIER_KIND_VESSEL_CALL_SIGN, transport.get(7)),
                    subject(pb.IDENTIFIER_KIND_VOYAGE, transport.get(1), issuer=charterer),
                ],
                places=[pb.Place(role=pb.PLACE_ROLE_EVENT, kind=pb.PLACE_KIND_PORT, un_locode=port)],
                parties=[pb.Party(role=pb.PARTY_ROLE_CARRIER, scheme="SMDG", id=charterer)],
                mode=pb.TRANSPORT_MODE_MARITIME,
                movement=pb.Movement(step=STEPS[segment.get(0)]),
            )
            result.events.append(Mapped(f"IFTSAI {CALLS[call.get(0)]}", file.name, publisher, event))
