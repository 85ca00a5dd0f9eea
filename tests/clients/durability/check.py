"""Proves from a trace of a node's system calls that no acknowledgement leaves before its journal was synced: publishes one event after
another, then reads what strace saw of it. It trusts nothing that the node says of itself.

    NODE_PROGRAM=target/debug/tradelane NODE_TRACE=trace.txt \\
        python start_node.py --binary durability/traced_node.sh -- python durability/check.py
"""

from __future__ import annotations

import os
import re
import sys
import time
import unittest
from dataclasses import dataclass
from pathlib import Path

from tradelane.v1.event_service_pb2_grpc import EventServiceStub

from node_under_test import NodeUnderTest
from port_system import discharged, publish

EVENTS = 50
# How long the trace may lag behind the answer that the client has seen.
TRACE_WITHIN_S = 20.0
# A mark that says that the last commit is settled: it holds no event, and is not synced on purpose.
MARK_BYTES = 72
# An answer holds an event's id, its position and a time; what is shorter keeps the connection (a ping's answer takes 39 bytes in TLS).
ANSWER_BYTES_MIN = 100
# Where frames begin in a half of the journal.
FRAMES_AT = 4096

# 123 fdatasync(9</data/journal.0> <unfinished ...>  and later  123 <... fdatasync resumed>) = 0; a short pid is padded to five places.
STARTED = re.compile(r"^(?P<pid>\d+) +(?P<call>\w+)\(\d+<(?P<file>.*?)>(?=[,)]| <unfinished)(?P<rest>.*)$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)$")
RESULT = re.compile(r" = (?P<result>-?\d+)")
# The end of a pwrite64's arguments: how many bytes, and where.
PLACE = re.compile(r", (?P<bytes>\d+), (?P<at>\d+)(?:\)| <unfinished)")
SYNCS = {"fdatasync", "fsync"}
SENDS = {"write", "writev", "sendto", "sendmsg"}


@dataclass
class Tally:
    """What a trace shows."""

    commits: int = 0
    """Frames with events that were written to the journal and synced."""
    answers: int = 0
    """Commits after which something was sent to a client."""
    faults: list[str] | None = None
    """What was sent while a frame was written and not yet synced."""


def read_trace(lines: list[str], listen_port: str) -> Tally:
    """Follows a trace: a write and a send count from their beginning, a sync only once it has returned 0."""
    tally = Tally(faults=[])
    # What was open at the beginning of calls that have not ended: (file, the commit that was unsynced then).
    open_calls: dict[tuple[str, str], tuple[str, str | None]] = {}
    unsynced: str | None = None
    answer_due = False
    for line in lines:
        if started := STARTED.match(line):
            pid, call, file, rest = started["pid"], started["call"], started["file"], started["rest"]
            if call == "pwrite64" and is_commit(file, rest):
                unsynced = line
            unsynced_at_start = unsynced
            if "<unfinished ...>" in rest:
                open_calls[pid, call] = (file, unsynced)
                continue
        elif resumed := RESUMED.match(line):
            call, rest = resumed["call"], resumed["rest"]
            file, unsynced_at_start = open_calls.pop((resumed["pid"], call), ("", None))
        else:
            continue
        result = int(found["result"]) if (found := RESULT.search(rest)) else -1
        if call in SENDS and is_client(file, listen_port) and result >= ANSWER_BYTES_MIN:
            if unsynced_at_start is not None:
                tally.faults.append(f"sent before the sync of the commit [{unsynced_at_start}]: {line}")
            elif answer_due:
                tally.answers += 1
                answer_due = False
        elif call in SYNCS and is_journal(file) and result == 0 and unsynced is not None:
            unsynced = None
            answer_due = True
            tally.commits += 1
    return tally


def is_journal(file: str) -> bool:
    return "/journal." in file


def is_commit(file: str, rest: str) -> bool:
    """A frame with events: behind the header of its half, and larger than a mark."""
    place = PLACE.search(rest)
    return is_journal(file) and place is not None and int(place["bytes"]) > MARK_BYTES and int(place["at"]) >= FRAMES_AT


def is_client(file: str, listen_port: str) -> bool:
    """strace -yy writes a connection as TCP:[local->remote], or TCPv6:[...]."""
    return file.startswith("TCP") and f":{listen_port}->" in file


class Acknowledgements(unittest.TestCase):
    """No acknowledgement before the disk has it."""

    def test_every_answer_follows_the_sync_of_its_commit(self) -> None:
        node = NodeUnderTest()
        port = node.participant("port")
        with node.channel("port") as channel:
            stub = EventServiceStub(channel)
            for _ in range(EVENTS):
                results = publish(stub, [discharged(port.spiffe_id, "MSKU9070323", "2601E", "SMDG:MSC")])
                self.assertFalse(results[0].duplicate)
        listen_port = node.address.rpartition(":")[2]
        trace, give_up_at = Path(os.environ["NODE_TRACE"]), time.monotonic() + TRACE_WITHIN_S
        while True:
            tally = read_trace(trace.read_text(errors="replace").splitlines(), listen_port)
            if tally.faults or tally.answers >= EVENTS or time.monotonic() > give_up_at:
                break
            time.sleep(0.2)
        self.assertFalse(tally.faults, "\n".join(tally.faults[:3]))
        # One after another: each event is a commit of its own, and each commit is answered.
        self.assertEqual((tally.commits, tally.answers), (EVENTS, EVENTS))
        print(f"{tally.commits} commits, each synced before its answer was sent", file=sys.stderr)


class Reading(unittest.TestCase):
    """The reader of traces itself: it must see what it is there to see."""

    WRITE = "7 pwrite64(9</d/journal.0>, ..., 800, 4096) = 800"
    SYNC = "7 fdatasync(9</d/journal.0>) = 0"
    SEND = "8 writev(20<TCP:[127.0.0.1:7443->127.0.0.1:50000]>, [...], 1) = 148"
    PONG = "8 writev(20<TCP:[127.0.0.1:7443->127.0.0.1:50000]>, [...], 1) = 39"

    def test_order_decides(self) -> None:
        self.assertEqual(read_trace([self.WRITE, self.SYNC, self.SEND], "7443"), Tally(1, 1, []))
        padded = [line.replace(" ", "     ", 1) for line in (self.WRITE, self.SYNC, self.SEND)]
        self.assertEqual(read_trace(padded, "7443"), Tally(1, 1, []))
        self.assertEqual(len(read_trace([self.WRITE, self.SEND, self.SYNC], "7443").faults or []), 1)
        begun = "7 fdatasync(9</d/journal.0> <unfinished ...>"
        done = "7 <... fdatasync resumed>) = 0"
        self.assertEqual(len(read_trace([self.WRITE, begun, self.SEND, done], "7443").faults or []), 1)
        self.assertEqual(read_trace([self.WRITE, begun, done, self.SEND], "7443"), Tally(1, 1, []))
        self.assertEqual(read_trace([self.WRITE, self.PONG, self.SYNC, self.SEND], "7443"), Tally(1, 1, []))
        send = "8 writev(20<TCP:[127.0.0.1:7443->127.0.0.1:50000]>, [...], 1 <unfinished ...>"
        sent = "8 <... writev resumed>) = 148"
        self.assertEqual(len(read_trace([self.WRITE, send, self.SYNC, sent], "7443").faults or []), 1)

    def test_a_failed_sync_and_a_mark_are_none(self) -> None:
        failed = "7 fdatasync(9</d/journal.0>) = -1 EIO (Input/output error)"
        self.assertEqual(len(read_trace([self.WRITE, failed, self.SEND], "7443").faults or []), 1)
        header = "7 pwrite64(9</d/journal.0>, ..., 96, 0) = 96"
        self.assertEqual(read_trace([header, self.SYNC, self.SEND], "7443"), Tally(0, 0, []))
        mark = "7 pwrite64(9</d/journal.0>, ..., 72, 4896) = 72"
        self.assertEqual(read_trace([mark, self.SEND], "7443"), Tally(0, 0, []))


if __name__ == "__main__":
    unittest.main()
