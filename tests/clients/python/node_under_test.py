"""What the checks know of the node that start_node.py started for them: its address, its authorities, and who may speak to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from tradelane_client import Identity, connect


@dataclass(frozen=True)
class Participant:
    """Somebody with a certificate."""

    spiffe_id: str
    identity: Identity


class NodeUnderTest:
    """Reads the description that start_node.py leaves in the file that TRADELANE_TEST_NODE names."""

    def __init__(self) -> None:
        description = json.loads(Path(os.environ["TRADELANE_TEST_NODE"]).read_text())
        self.address: str = description["address"]
        self.operations: str = description["operations"]
        self.ca_file = Path(description["ca"])
        self._participants = description["participants"]
        self._process_file = Path(description["process"])

    def process_id(self) -> int:
        """The node's process at this moment: after a kill, start_node.py starts another."""
        return int(self._process_file.read_text())

    def participant(self, name: str) -> Participant:
        entry = self._participants[name]
        return Participant(entry["id"], Identity(self.ca_file, Path(entry["cert"]), Path(entry["key"])))

    def channel(self, name: str, address: str | None = None) -> grpc.Channel:
        """A channel of that participant, to the node or to a proxy before it."""
        return connect(address or self.address, self.participant(name).identity)


class CuttingProxy:
    """Stands between client and node and cuts each connection after a number of bytes from the client or to it: the network at its
    worst. It sees only ciphertext."""

    def __init__(self, target: str, cut_after_bytes: int) -> None:
        host, _, port = target.rpartition(":")
        self._target, self._cut_after_bytes = (host, int(port)), cut_after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        self.cuts = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                node = socket.create_connection(self._target)
            except OSError:
                return
            budget = _Budget(self._cut_after_bytes)
            for source, sink in ((client, node), (node, client)):
                threading.Thread(target=self._pump, args=(source, sink, budget), name="proxy", daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, budget: _Budget) -> None:
        try:
            while data := source.recv(16 * 1024):
                if not budget.take(len(data)):
                    self.cuts += 1
                    break
                sink.sendall(data)
        except OSError:
            pass  # The other direction has closed both ends already.
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            source.close()


class _Budget:
    """Bytes that one connection may still carry, both ways together."""

    def __init__(self, left: int) -> None:
        self._left, self._lock = left, threading.Lock()

    def take(self, count: int) -> bool:
        with self._lock:
            self._left -= count
            return self._left > 0
