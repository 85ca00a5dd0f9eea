"""A small reader of UN/EDIFACT interchanges as ports really get them (ISO 9735 syntax): service string advice, release characters,
line breaks between segments, and envelopes that are wrong or missing. It knows segments and messages, not what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

# Component, element, decimal mark, release, repetition or reserved, segment terminator: the order of UNA.
DEFAULT_SERVICE_STRING = ":+.? '"


@dataclass(frozen=True)
class Segment:
    """A tag with elements, each a list of components. Reading past the end gives an empty string, since senders cut off what is empty."""

    tag: str
    elements: tuple[tuple[str, ...], ...]

    def get(self, element: int, component: int = 0) -> str:
        """The component, both counted from 0; the tag itself is not counted."""
        if element < len(self.elements) and component < len(self.elements[element]):
            return self.elements[element][component].strip()
        return ""


@dataclass
class Message:
    """One UNH..UNT with what its interchange's header says."""

    kind: str
    version: str
    reference: str
    sender: str
    prepared: datetime | None
    segments: list[Segment] = field(default_factory=list)


@dataclass
class Interchange:
    """All messages of a file, and what is wrong with its envelope: worth telling its sender, no reason to lose the messages."""

    messages: list[Message] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read(content: bytes) -> Interchange:
    """Reads a file. Bytes that are no UTF-8 are read as Latin-1, which UNOC and most senders mean."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    result = Interchange()
    sender, prepared, announced = "", None, None
    message: Message | None = None
    for segment in segments(text):
        if segment.tag == "UNB":
            sender = segment.get(1)
            prepared = date_and_time(segment.get(3, 0) + segment.get(3, 1))
        elif segment.tag == "UNH":
            version = f"{segment.get(1, 1)}.{segment.get(1, 2)}"
            message = Message(segment.get(1), version, segment.get(0), sender, prepared)
            result.messages.append(message)
        elif segment.tag == "UNT" and message is not None:
            counted = len(message.segments) + 2
            if segment.get(0) != str(counted):
                result.faults.append(f"UNT of {message.reference} says {segment.get(0)} segments, there are {counted}")
            message = None
        elif segment.tag == "UNZ":
            announced = segment.get(0)
        elif message is not None:
            message.segments.append(segment)
    if not sender:
        result.faults.append("no UNB: nobody says who sent it, and when")
    if announced is None:
        result.faults.append("no UNZ: the end of the interchange is missing")
    elif announced != str(len(result.messages)):
        result.faults.append(f"UNZ says {announced} messages, there are {len(result.messages)}")
    return result


def segments(text: str) -> Iterator[Segment]:
    """Cuts a text into segments, honouring UNA and the release character."""
    service = DEFAULT_SERVICE_STRING
    if text.startswith("UNA"):
        service, text = text[3:9], text[9:]
    component_mark, element_mark, release, terminator = (service[i] for i in (0, 1, 3, 5))
    elements: list[list[str]] = [[""]]
    characters = iter(text)
    for character in characters:
        if character == release:
            elements[-1][-1] += next(characters, "")
        elif character == component_mark:
            elements[-1].append("")
        elif character == element_mark:
            elements.append([""])
        elif character == terminator:
            tag = elements[0][0].strip()
            if tag:
                yield Segment(tag, tuple(tuple(e) for e in elements[1:]))
            elements = [[""]]
        elif character not in "\r\n":
            elements[-1][-1] += character


def date_and_time(digits: str) -> datetime | None:
    """A DTM value (2379: 102, 203, 204) or a UNB time, told apart by length; none of them bears a zone. Empty or odd: nothing."""
    formats = {8: "%Y%m%d", 10: "%y%m%d%H%M", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
    try:
        return datetime.strptime(digits, formats[len(digits)])
    except (KeyError, ValueError):
        return None
