"""What every mapping of this folder shares: the envelope of an event, ids that do not change when a file is read twice, and the list of
what a message says that an event cannot. It knows no message format."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from tradelane.v1 import event_pb2 as pb

# The namespace of our UUIDv5 ids: an event_id is made from what the source itself calls the message, so that reading a file again, on
# another day or another machine, publishes nothing twice.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://tradelane.example/real-input")

# EDIFACT times bear no zone: they are local times of the place, so an importer has to know the clock there.
ZONES = {
    "CN": "Asia/Shanghai",
    "DE": "Europe/Berlin",
    "EG": "Africa/Cairo",
    "GB": "Europe/London",
    "GR": "Europe/Athens",
    "HK": "Asia/Hong_Kong",
    "IT": "Europe/Rome",
    "KR": "Asia/Seoul",
    "MA": "Africa/Casablanca",
    "MY": "Asia/Kuala_Lumpur",
    "NL": "Europe/Amsterdam",
    "OM": "Asia/Muscat",
    "TR": "Europe/Istanbul",
}

# Kinds of references whose punctuation belongs to them.
PUNCTUATED = {
    pb.IDENTIFIER_KIND_UCR,
    pb.IDENTIFIER_KIND_LRN,
    pb.IDENTIFIER_KIND_PORT_CALL,
    pb.IDENTIFIER_KIND_TERMINAL_CALL,
}


@dataclass(frozen=True)
class SourceFile:
    """One file of somebody else's, with the name of its standard."""

    path: Path
    name: str
    standard: str
    content: bytes

    def source(self, message_id: str) -> pb.Source:
        """The audit trail from an event back to this file."""
        return pb.Source(standard=self.standard, message_id=message_id, sha256=hashlib.sha256(self.content).digest())


@dataclass
class Mapped:
    """One event with the row of the report that it belongs to, and whose statement it is."""

    kind: str
    file: str
    publisher: str
    event: pb.Event


@dataclass
class Mapping:
    """What a set of files became: events in the order of publishing, and what could not be said, by kind and reason."""

    files: int = 0
    events: list[Mapped] = field(default_factory=list)
    unsaid: dict[str, list[str]] = field(default_factory=dict)

    def cannot_say(self, what: str, example: str) -> None:
        """Notes something that a message states and an event has no place for."""
        self.unsaid.setdefault(what, []).append(example)

    def extend(self, other: Mapping) -> None:
        self.files += other.files
        self.events += other.events
        for what, examples in other.unsaid.items():
            self.unsaid.setdefault(what, []).extend(examples)


def event_id(*source_ids: str) -> str:
    """An id made from the source's own ids."""
    return str(uuid.uuid5(NAMESPACE, "|".join(source_ids)))


def timestamp(moment: datetime) -> Timestamp:
    """An aware time as protobuf has it."""
    assert moment.tzinfo is not None, "a time without a zone says nothing"
    result = Timestamp()
    result.FromDatetime(moment.astimezone(UTC))
    return result


def offset_minutes(moment: datetime) -> int:
    """The local clock's distance from UTC, which EPCIS and DCSA receivers need."""
    offset = moment.utcoffset()
    assert offset is not None, "a time without a zone says nothing"
    return offset // timedelta(minutes=1)


def local(moment: datetime, un_locode_or_country: str) -> datetime:
    """Puts a time without a zone on the clock of its place."""
    return moment.replace(tzinfo=ZoneInfo(ZONES[un_locode_or_country[:2]]))


def envelope(
    *,
    source: pb.Source,
    publisher: str,
    ids: Iterable[str],
    event_time: datetime,
    created_time: datetime,
    classifier: pb.Classifier,
    precision: pb.TimePrecision = pb.TIME_PRECISION_INSTANT,
    subjects: Iterable[pb.Subject],
    places: Iterable[pb.Place] = (),
    parties: Iterable[pb.Party] = (),
    **rest: object,
) -> pb.Event:
    """An event with everything but its body; `rest` takes the body and the remaining fields by name."""
    return pb.Event(
        event_id=event_id(source.standard, *ids),
        publisher=publisher,
        event_time=timestamp(event_time),
        time_precision=precision,
        utc_offset_minutes=offset_minutes(event_time),
        created_time=timestamp(created_time),
        classifier=classifier,
        subjects=list(subjects),
        places=list(places),
        parties=list(parties),
        audience=pb.Audience(reach=pb.REACH_NETWORK),
        sources=[source],
        **rest,
    )


def subject(
    kind: pb.IdentifierKind, value: str, issuer: str = "", role: pb.SubjectRole = pb.SUBJECT_ROLE_PRIMARY
) -> pb.Subject:
    """A subject in canonical form: upper case, without spaces, and without hyphens where they are no part of the reference."""
    dropped = r"\s" if kind in PUNCTUATED else r"[\s-]"
    return pb.Subject(kind=kind, value=re.sub(dropped, "", value).upper(), issuer=issuer.upper(), role=role)


def container(number: str) -> pb.Subject:
    """An ISO 6346 number, or equipment of another kind where the check digit says that it is none."""
    number = re.sub(r"[\s-]", "", number).upper()
    if iso6346_is_right(number):
        return subject(pb.IDENTIFIER_KIND_CONTAINER, number)
    return subject(pb.IDENTIFIER_KIND_OTHER_EQUIPMENT, number, issuer="UNKNOWN")


def iso6346_is_right(number: str) -> bool:
    """ISO 6346:2022, Annex A: letters count 10 to 38 without the multiples of 11, weights are powers of two."""
    if not re.fullmatch(r"[A-Z]{3}[UJZ][0-9]{7}", number):
        return False
    values = {}
    value = 10
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        if value % 11 == 0:
            value += 1
        values[letter] = value
        value += 1
    total = sum((values[c] if c.isalpha() else int(c)) << i for i, c in enumerate(number[:10]))
    return total % 11 % 10 == int(number[10])
