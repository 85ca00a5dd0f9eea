"""Proves from a trace of a node's system calls that no acknowledgement leaves before its journal was synced: publishes one event after
another, and then from several publishers at a time, and reads what strace saw of it. It trusts nothing that the node says of itself.

    NODE_PROGRAM=target/debug/tradelane NODE_TRACE=trace.txt \\
        python start_node.py --binary durability/traced_node.sh -- python durability/check.py

What is sent is encrypted, so that answers are counted by what precedes them: a publisher has a connection of its own and one request in
flight on it, and what first goes out on a connection after a request came in on it is the answer. Journal frames say in the clear how
many events they hold.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from tradelane.v1.event_service_pb2_grpc import EventServiceStub

from node_under_test import NodeUnderTest
from port_system import discharged, publish

EVENTS = 50
PUBLISHERS = 8
EVENTS_A_PUBLISHER = 40
# How long the trace may lag behind the answer that the client has seen.
TRACE_WITHIN_S = 20.0
# An answer holds an event's id, its position and a time; what is shorter keeps the connection (a ping's answer takes 39 bytes in TLS).
# A request is larger than that, too.
MESSAGE_BYTES_MIN = 100
# Where frames begin in a half of the journal.
FRAMES_AT = 4096
# A frame's header: magic, CRC, salt, first sequence, count of events, payload's length, chain hash, kind, zero, length of state.
FRAME_HEADER = struct.Struct("<4sIQQII32sB3xI")
KIND_COMMIT = 1

# 123 fdatasync(9</data/journal.0> <unfinished ...>  and later  123 <... fdatasync resumed>) = 0; a short pid is padded to five places.
STARTED = re.compile(r"^(?P<pid>\d+) +(?P<call>\w+)\((?P<fd>\d+<(?P<file>.*?)>)(?=[,)]| <unfinished)(?P<rest>.*)$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)$")
RESULT = re.compile(r" = (?P<result>-?\d+)(?: |$)")
# A pwrite64's arguments: the first bytes in hexadecimal, how many bytes, and where.
WRITTEN = re.compile(r'^, "(?P<hex>(?:\\x[0-9a-f]{2})*)"(?:\.\.\.)?, (?P<bytes>\d+), (?P<at>\d+)(?:\)| <unfinished)')
SYNCS = {"fdatasync", "fsync"}
RECEIVES = {"read", "readv", "recvfrom", "recvmsg"}
SENDS = {"write", "writev", "sendto", "sendmsg"}


@dataclass
class Frame:
    """A commit in the journal."""

    file: str
    events: int
    written_at: int
    """The line where its write began."""


@dataclass
class Answer:
    """What first went out on a connection after a request had come in on it."""

    began_at: int
    """The line where its send began."""
    synced_events: int
    """How many events were synced by then."""
    is_early: bool
    """No frame written after its request was synced by then."""
    line: str
    """Where its send ended."""


@dataclass
class Tally:
    """What a trace shows."""

    commits: int = 0
    """Frames with events that were written to the journal and synced."""
    events: int = 0
    """The events in them."""
    answers: int = 0
    """Requests after which something was sent on their connection."""
    faults: list[str] = field(default_factory=list)
    """What was sent although no frame written after its request was synced, or although every synced event was answered already."""


@dataclass
class Reader:
    """Follows a trace line by line: a write, a sync and a send count from their beginning, a sync only once it has returned 0, a request
    only once it was read."""

    listen_port: str
    ports: set[str]
    """Whose connections are looked at, by their clients' ports."""
    tally: Tally = field(default_factory=Tally)
    unsynced: list[Frame] = field(default_factory=list)
    last_synced_written_at: int = -1
    """Where the write of the newest synced frame began."""
    requests: dict[str, int] = field(default_factory=dict)
    """Connections with a request that is not answered: the line where it had been read."""
    greeted: set[str] = field(default_factory=set)
    """Connections on which the node has sent its part of the TLS handshake, which nobody asked in a request."""
    answers: list[Answer] = field(default_factory=list)
    open_calls: dict[str, tuple[str, str, str, object]] = field(default_factory=dict)
    """By thread, what has begun and not ended: call, connection or file with its number, name, and what began() answered."""

    def read(self, number: int, line: str) -> None:
        if started := STARTED.match(line):
            pid, call, fd, file, rest = (started[name] for name in ("pid", "call", "fd", "file", "rest"))
            begun = self.began(number, call, fd, file, rest)
            if rest.endswith("<unfinished ...>"):
                self.open_calls[pid] = (call, fd, file, begun)
                return
        elif (resumed := RESUMED.match(line)) and resumed["pid"] in self.open_calls:
            call, fd, file, begun = self.open_calls.pop(resumed["pid"])
            rest = resumed["rest"]
        else:
            return
        result = int(found["result"]) if (found := RESULT.search(rest)) else -1
        self.ended(number, line, (call, fd, file), result, begun)

    def began(self, number: int, call: str, fd: str, file: str, rest: str) -> object:
        """What must be known of the moment when a call begins."""
        if call == "pwrite64" and (events := events_in(file, rest)):
            self.unsynced.append(Frame(file, events, number))
        if call in SYNCS:
            return [frame for frame in self.unsynced if frame.file == file]
        if call in SENDS:
            return (number, self.last_synced_written_at, self.tally.events)
        return None

    def ended(self, number: int, line: str, what: tuple[str, str, str], result: int, begun: object) -> None:
        call, fd, file = what
        if call in SYNCS and result == 0:
            for frame in begun:
                self.unsynced.remove(frame)
                self.tally.commits += 1
                self.tally.events += frame.events
                self.last_synced_written_at = max(self.last_synced_written_at, frame.written_at)
        if not self.is_looked_at(file) or result < MESSAGE_BYTES_MIN:
            return
        if call in RECEIVES:
            self.requests[fd] = number
        elif call in SENDS and fd not in self.greeted:
            self.greeted.add(fd)
            self.requests.pop(fd, None)
        elif call in SENDS and (asked_at := self.requests.pop(fd, None)) is not None:
            began_at, synced_written_at, synced_events = begun
            self.answers.append(Answer(began_at, synced_events, synced_written_at < asked_at, line))

    def judge(self) -> None:
        """Counts the answers in the order in which their sends began: they end in another."""
        for count, answer in enumerate(sorted(self.answers, key=lambda answer: answer.began_at), start=1):
            if answer.is_early:
                self.tally.faults.append(f"sent before the sync of any commit after its request: {answer.line}")
            elif count > answer.synced_events:
                self.tally.faults.append(f"answer {count} sent before the sync of so many events: {answer.line}")
        self.tally.answers = len(self.answers)

    def is_looked_at(self, file: str) -> bool:
        """strace -yy writes a connection as TCP:[local->remote], or TCPv6:[...]."""
        return (
            file.startswith("TCP") and f":{self.listen_port}->" in file and file[:-1].rpartition(":")[2] in self.ports
        )


def read_trace(lines: list[str], listen_port: str, ports: set[str]) -> Tally:
    """Reads a trace from its beginning."""
    reader = Reader(listen_port, ports)
    for number, line in enumerate(lines):
        reader.read(number, line)
    reader.judge()
    return reader.tally


def events_in(file: str, rest: str) -> int:
    """The events of a frame; none where something else is written: a half's header, a mark that says that the last commit is settled."""
    written = WRITTEN.match(rest)
    if "/journal." not in file or written is None or int(written["at"]) < FRAMES_AT:
        return 0
    head = bytes.fromhex(written["hex"].replace("\\x", ""))[: FRAME_HEADER.size]
    magic, _, _, _, events, _, _, kind, _ = FRAME_HEADER.unpack(head)
    return events if (magic, kind) == (b"TLFR", KIND_COMMIT) else 0


def own_ports(listen_port: str) -> set[str]:
    """The local ports of this process's connections to the node, as the kernel lists them."""
    inodes = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue  # The one that lists them.
    ports = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for row in Path(table).read_text().splitlines()[1:]:
            columns = row.split()
            local, remote = (str(int(columns[column].rpartition(":")[2], 16)) for column in (1, 2))
            if remote == listen_port and f"socket:[{columns[9]}]" in inodes:
                ports.add(local)
    return ports


class Acknowledgements(unittest.TestCase):
    """No acknowledgement before the disk has it."""

    def test_every_answer_follows_the_sync_of_its_commit(self) -> None:
        node = NodeUnderTest()
        listen_port = node.address.rpartition(":")[2]
        channels = [node.channel("port") for _ in range(PUBLISHERS)]
        self.addCleanup(lambda: [channel.close() for channel in channels])
        # One after another: each event is a commit of its own.
        self.publish(node, channels[0], EVENTS)
        tally = self.tally(listen_port, EVENTS)
        self.assertEqual((tally.commits, tally.events, tally.answers), (EVENTS, EVENTS, EVENTS))
        # Several at a time: commits hold the events of several.
        with ThreadPoolExecutor(PUBLISHERS) as publishers:
            list(publishers.map(lambda channel: self.publish(node, channel, EVENTS_A_PUBLISHER), channels))
        events = EVENTS + PUBLISHERS * EVENTS_A_PUBLISHER
        tally = self.tally(listen_port, events)
        self.assertEqual((tally.events, tally.answers), (events, events))
        self.assertLess(
            tally.commits, events, "no two requests were ever in flight together: nothing is proven of that"
        )
        print(f"{events} events in {tally.commits} commits, each synced before it was answered", file=sys.stderr)

    def publish(self, node: NodeUnderTest, channel: grpc.Channel, events: int) -> None:
        stub, publisher = EventServiceStub(channel), node.participant("port").spiffe_id
        for _ in range(events):
            results = publish(stub, [discharged(publisher, "MSKU9070323", "2601E", "SMDG:MSC")])
            self.assertFalse(results[0].duplicate)

    def tally(self, listen_port: str, answers: int) -> Tally:
        """Reads the trace until it shows so many answers."""
        ports, trace = own_ports(listen_port), Path(os.environ["NODE_TRACE"])
        give_up_at = time.monotonic() + TRACE_WITHIN_S
        while True:
            tally = read_trace(trace.read_text(errors="replace").splitlines(), listen_port, ports)
            if tally.faults or tally.answers >= answers or time.monotonic() > give_up_at:
                break
            time.sleep(0.2)
        self.assertFalse(tally.faults, "\n".join(tally.faults[:3]))
        return tally


def frame(events: int, kind: int = KIND_COMMIT, at: int = FRAMES_AT) -> str:
    """A write to the journal, as strace shows it."""
    head = FRAME_HEADER.pack(b"TLFR", 1, 2, 3, events, 800, bytes(32), kind, 0) + b"payload"
    shown = "".join(f"\\x{byte:02x}" for byte in head)
    return f'7 pwrite64(9</d/journal.0>, "{shown}"..., 900, {at}) = 900'


class Reading(unittest.TestCase):
    """The reader of traces itself: it must see what it is there to see."""

    HELLO = (
        '8 recvfrom(20<TCP:[127.0.0.1:7443->127.0.0.1:50000]>, "", 4096, 0, NULL, NULL) = 300',
        '8 sendto(20<TCP:[127.0.0.1:7443->127.0.0.1:50000]>, "", 900, MSG_NOSIGNAL, NULL, 0) = 900',
    )
    ASK = '8 recvfrom(20<TCP:[127.0.0.1:7443->127.0.0.1:50000]>, "", 4096, 0, NULL, NULL) = 400'
    ASK_2 = ASK.replace("50000", "50001").replace("(20", "(21")
    FRAME = frame(1)
    SYNC = "7 fdatasync(9</d/journal.0>) = 0"
    BEGUN, DONE = "7 fdatasync(9</d/journal.0> <unfinished ...>", "7 <... fdatasync resumed>) = 0"
    SEND = "8 writev(20<TCP:[127.0.0.1:7443->127.0.0.1:50000]>, [...], 1) = 148"
    SEND_2 = SEND.replace("50000", "50001").replace("(20", "(21")
    PONG = SEND.replace("148", "39")

    def faults(self, *lines: str) -> int:
        return len(self.read(*lines).faults)

    def read(self, *lines: str) -> Tally:
        second = tuple(line.replace("50000", "50001").replace("(20", "(21") for line in self.HELLO)
        return read_trace([*self.HELLO, *second, *lines], "7443", {"50000", "50001"})

    def test_order_decides(self) -> None:
        lines = (self.ASK, self.FRAME, self.SYNC, self.SEND)
        self.assertEqual(self.read(*lines), Tally(1, 1, 1, []))
        self.assertEqual(self.read(*(line.replace(" ", "     ", 1) for line in lines)), Tally(1, 1, 1, []))
        self.assertEqual(self.faults(self.ASK, self.FRAME, self.SEND, self.SYNC), 1)
        self.assertEqual(self.faults(self.ASK, self.FRAME, self.BEGUN, self.SEND, self.DONE), 1)
        self.assertEqual(self.faults(self.ASK, self.FRAME, self.BEGUN, self.DONE, self.SEND), 0)
        self.assertEqual(self.faults(self.ASK, self.BEGUN, self.FRAME.replace("7 ", "6 "), self.DONE, self.SEND), 1)
        self.assertEqual(self.read(self.ASK, self.FRAME, self.PONG, self.SYNC, self.SEND), Tally(1, 1, 1, []))
        send = self.SEND.replace(") = 148", " <unfinished ...>")
        self.assertEqual(self.faults(self.ASK, self.FRAME, send, self.SYNC, "8 <... writev resumed>) = 148"), 1)

    def test_no_answer_is_covered_by_the_commit_of_another(self) -> None:
        asked = (self.ASK, self.ASK_2)
        self.assertEqual(self.read(*asked, frame(2), self.SYNC, self.SEND, self.SEND_2), Tally(1, 2, 2, []))
        self.assertEqual(self.faults(*asked, self.FRAME, self.SYNC, self.SEND, self.SEND_2), 1)
        self.assertEqual(self.faults(self.ASK, frame(2), self.SYNC, self.SEND, self.ASK_2, self.SEND_2), 1)

    def test_answers_count_by_when_they_began(self) -> None:
        asked = (self.ASK, self.ASK_2)
        begun, done = self.SEND.replace(") = 148", " <unfinished ...>"), "8 <... writev resumed>) = 148"
        other = self.SEND_2.replace("8 ", "9 ", 1)
        first, second = (self.FRAME, self.SYNC), (frame(1, at=8192), self.SYNC)
        self.assertEqual(self.read(*asked, *first, begun, *second, other, done), Tally(2, 2, 2, []))
        self.assertEqual(self.faults(*asked, *first, begun, other, done, *second), 1)

    def test_a_failed_sync_a_header_and_a_mark_are_none(self) -> None:
        failed = "7 fdatasync(9</d/journal.0>) = -1 EIO (Input/output error)"
        self.assertEqual(self.faults(self.ASK, self.FRAME, failed, self.SEND), 1)
        for other in (frame(1, at=0), frame(0, kind=2), frame(0)):
            self.assertEqual(self.faults(self.ASK, other, self.SYNC, self.SEND), 1)
            self.assertEqual(self.read(other, self.SYNC), Tally(0, 0, 0, []))

    def test_others_connections_are_not_looked_at(self) -> None:
        other = [line.replace("50000", "50009") for line in (*self.HELLO, self.ASK, self.SEND)]
        self.assertEqual(self.read(*other), Tally(0, 0, 0, []))


if __name__ == "__main__":
    unittest.main()
