"""Maps COARRI, the terminal's report of what it discharged and loaded (UN/EDIFACT D.95B, SMDG and ITG guides), as the terminal's own
engineer would: one Handling a container, and the vessel's estimated arrival and departure."""

from __future__ import annotations

from tradelane.v1 import event_pb2 as pb

import edifact
from edifact import Message, Segment
from model import Mapped, Mapping, SourceFile, container, envelope, local, subject

# BGM 1001, ITG guide.
STEPS = {"44": pb.HANDLING_STEP_DISCHARGED, "46": pb.HANDLING_STEP_LOADED}
# LOC 3227.
PLACE_ROLES = {"7": pb.PLACE_ROLE_DELIVERY, "9": pb.PLACE_ROLE_LOADING, "11": pb.PLACE_ROLE_DISCHARGE}
# Terms of movement (8335) and the free texts that hold no more than "fine": nothing that an event would have to say.
SILENT = {"TMD", "CNT"}


def map_file(file: SourceFile, publisher: str) -> Mapping:
    """Maps every COARRI of an interchange."""
    result = Mapping(files=1)
    interchange = edifact.read(file.content)
    for fault in interchange.faults:
        result.cannot_say("envelope at fault", f"{file.name}: {fault}")
    for message in interchange.messages:
        if message.kind == "COARRI":
            _Mapper(file, message, publisher, result).map()
    return result


class _Mapper:
    """One message: its header first, which every container's group refers to."""

    def __init__(self, file: SourceFile, message: Message, publisher: str, result: Mapping) -> None:
        self.file, self.message, self.publisher, self.result = file, message, publisher, result
        first = next(i for i, s in enumerate(message.segments) if s.tag == "EQD")
        self.header, self.groups = message.segments[:first], _groups(message.segments[first:])
        begin = _first(self.header, "BGM")
        self.step = STEPS[begin.get(0)]
        self.source = file.source(begin.get(1))
        transport = _first(self.header, "TDT")
        self.carrier = transport.get(4)
        self.call_sign = transport.get(7)
        self.voyage = transport.get(1)
        self.parties = [pb.Party(role=pb.PARTY_ROLE_CARRIER, scheme="SMDG", id=self.carrier)]
        self.operators = [
            pb.Party(role=pb.PARTY_ROLE_EQUIPMENT_OPERATOR, scheme="SMDG", id=segment.get(1))
            for segment in self.header
            if segment.tag == "NAD" and segment.get(0) == "CF"
        ]
        # In a discharge report the terminal stands as the port of discharge, in a load report as the port of loading.
        here = next(s for s in self.header if s.tag == "LOC" and len(s.elements) > 2)
        self.port, self.terminal = here.get(1), here.get(2)
        assert message.prepared is not None, "a report that nobody dated cannot be ordered"
        self.created = local(message.prepared, self.port)

    def map(self) -> None:
        for segment in self.header:
            if segment.tag == "DTM" and segment.get(0) in ("132", "133"):
                self._vessel(segment)
        for group in self.groups:
            self._container(group)

    def _vessel(self, segment: Segment) -> None:
        arrival = segment.get(0, 0) == "132"
        moment = edifact.date_and_time(segment.get(0, 1))
        assert moment is not None
        step = pb.MOVEMENT_STEP_ARRIVED if arrival else pb.MOVEMENT_STEP_DEPARTED
        event = envelope(
            source=self.source,
            publisher=self.publisher,
            ids=(self.message.sender, self.message.reference, segment.get(0)),
            event_time=local(moment, self.port),
            created_time=self.created,
            classifier=pb.CLASSIFIER_ESTIMATED,
            precision=pb.TIME_PRECISION_MINUTE,
            subjects=[
                subject(pb.IDENTIFIER_KIND_VESSEL_CALL_SIGN, self.call_sign),
                subject(pb.IDENTIFIER_KIND_VOYAGE, self.voyage, issuer=self.carrier),
            ],
            places=[self._here()],
            parties=self.parties,
            mode=pb.TRANSPORT_MODE_MARITIME,
            movement=pb.Movement(step=step),
        )
        self.result.events.append(Mapped("COARRI vessel estimates", self.file.name, self.publisher, event))

    def _container(self, group: list[Segment]) -> None:
        equipment = group[0]
        number = equipment.get(1)
        subjects = [
            container(number),
            subject(pb.IDENTIFIER_KIND_VESSEL_CALL_SIGN, self.call_sign, role=pb.SUBJECT_ROLE_CARRIED_BY),
            subject(pb.IDENTIFIER_KIND_VOYAGE, self.voyage, issuer=self.carrier, role=pb.SUBJECT_ROLE_CARRIED_BY),
        ]
        places = [self._here()]
        if self.step == pb.HANDLING_STEP_DISCHARGED:
            places.append(pb.Place(role=pb.PLACE_ROLE_DISCHARGE, kind=pb.PLACE_KIND_PORT, un_locode=self.port))
        else:
            places.append(pb.Place(role=pb.PLACE_ROLE_LOADING, kind=pb.PLACE_KIND_PORT, un_locode=self.port))
        handling = pb.Handling(
            step=self.step,
            size_type=equipment.get(2),
            load_status={"4": pb.LOAD_STATUS_EMPTY, "5": pb.LOAD_STATUS_LADEN}[equipment.get(5)],
            traffic=int(equipment.get(4)),
        )
        moment = None
        for segment in group[1:]:
            qualifier = segment.get(0)
            if segment.tag == "DTM" and qualifier == "203":
                moment = edifact.date_and_time(segment.get(0, 1))
            elif segment.tag == "RFF" and qualifier == "BN":
                subjects.append(subject(pb.IDENTIFIER_KIND_BOOKING, segment.get(0, 1), issuer=self.carrier))
            elif segment.tag == "LOC" and qualifier == "147":
                handling.stowage_position = segment.get(1).zfill(7)
            elif segment.tag == "LOC" and qualifier in PLACE_ROLES:
                places.append(pb.Place(role=PLACE_ROLES[qualifier], kind=pb.PLACE_KIND_PORT, un_locode=segment.get(1)))
            elif segment.tag == "MEA" and segment.get(1) == "EGW" and segment.get(2) == "KGM":
                handling.gross_mass_grams = int(segment.get(2, 1)) * 1000
            elif segment.tag == "MEA" and segment.get(1) == "T" and segment.get(2) == "KGM":
                handling.tare_mass_grams = int(segment.get(2, 1)) * 1000
            elif segment.tag == "DGS" and qualifier == "IMD":
                handling.dangerous_goods.add(hazard_class=segment.get(1), un_number=segment.get(2))
            elif segment.tag == "SEL" and qualifier != "SI":
                subjects.append(subject(pb.IDENTIFIER_KIND_SEAL, qualifier, role=pb.SUBJECT_ROLE_SEAL))
            elif segment.tag == "FTX" and qualifier == "DAR":
                handling.damaged = segment.get(2) != "OK"
            else:
                self._unsaid(number, segment)
        assert moment is not None, f"{number}: no time of the operation"
        event = envelope(
            source=self.source,
            publisher=self.publisher,
            ids=(self.message.sender, self.message.reference, number),
            event_time=local(moment, self.port),
            created_time=self.created,
            classifier=pb.CLASSIFIER_ACTUAL,
            precision=pb.TIME_PRECISION_MINUTE,
            subjects=subjects,
            places=places,
            parties=self.parties + self.operators,
            mode=pb.TRANSPORT_MODE_MARITIME,
            handling=handling,
        )
        kind = "COARRI discharged" if self.step == pb.HANDLING_STEP_DISCHARGED else "COARRI loaded"
        self.result.events.append(Mapped(kind, self.file.name, self.publisher, event))

    def _here(self) -> pb.Place:
        """The terminal, by the code that the terminal and the line agreed upon (3055: ZZZ)."""
        return pb.Place(
            role=pb.PLACE_ROLE_EVENT,
            kind=pb.PLACE_KIND_TERMINAL,
            un_locode=self.port,
            facility=pb.Facility(scheme=pb.FACILITY_SCHEME_SMDG, code=self.terminal),
        )

    def _unsaid(self, number: str, segment: Segment) -> None:
        said = "+".join(":".join(e) for e in segment.elements)
        example = f"{number}: {segment.tag}+{said}"
        if segment.tag == "SEL":
            self.result.cannot_say("a seal without its number (the terminal writes SI, which is yes)", example)
        elif segment.tag == "FTX":
            self.result.cannot_say("goods description in words", example)
        elif segment.tag == "TDT":
            self.result.cannot_say("onward carriage by a mode that Recommendation 19 calls 'not applicable'", example)
        elif segment.tag not in SILENT:
            self.result.cannot_say(f"segment {segment.tag}", example)


def _groups(rest: list[Segment]) -> list[list[Segment]]:
    """Segments of each container: from its EQD to the next one."""
    groups: list[list[Segment]] = []
    for segment in rest:
        if segment.tag == "EQD":
            groups.append([])
        groups[-1].append(segment)
    return groups


def _first(segments: list[Segment], tag: str) -> Segment:
    return next(s for s in segments if s.tag == tag)
