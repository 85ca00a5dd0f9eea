"""Starts a node for the clients of this folder, with certificates and settings made by the program's own commands, runs a command
against it, and stops it again: by its process id, and in good order, else the run has failed.

    python start_node.py --binary target/debug/tradelane -- python python/check.py

The command finds the node by the file that TRADELANE_TEST_NODE names (see DESCRIPTION below). It may kill the node's process (SIGKILL):
the node is then started again, as systemd would. Any other end of the node before the command's is a failure."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

NODE_ID = "spiffe://exchange.example/node/test-1"
# Five administrations, each with an authority of its own; what each may do stands in POLICY.
PARTICIPANTS = {
    "port": "spiffe://port.example/system",
    "terminal": "spiffe://port.example/terminal",
    "carrier": "spiffe://carrier.example/schedules",
    "customs": "spiffe://customs.example/agency",
    "trader": "spiffe://broker.example/declarations",
    "operator": "spiffe://exchange.example/operator",
    "stranger": "spiffe://stranger.example/nobody",
}
POLICY = """
[[grant]]
id = "ports-report-moves"
who = ["spiffe://port.example/*"]
actions = ["publish", "read"]
filters = [{ types = ["movement", "handling"] }]

[[grant]]
id = "ports-see-clearances"
who = ["spiffe://port.example/*"]
actions = ["read"]
filters = [{ types = ["clearance", "association"] }]

[[grant]]
id = "carriers-announce-schedules"
who = ["spiffe://carrier.example/*"]
actions = ["publish", "read"]
filters = [{ types = ["movement"] }]

[[grant]]
id = "customs-clear"
who = ["spiffe://customs.example/*"]
actions = ["publish"]
filters = [{ types = ["clearance", "hold", "inspection", "association"] }]

[[grant]]
id = "customs-see"
who = ["spiffe://customs.example/*"]
actions = ["read"]
all = true

[[grant]]
id = "brokers-declare"
who = ["spiffe://broker.example/*"]
actions = ["publish", "read"]
filters = [{ types = ["document"] }]

[[grant]]
id = "brokers-follow-their-goods"
who = ["spiffe://broker.example/*"]
actions = ["read"]
filters = [{ parties = [{ participant = "$caller" }] }]

[[grant]]
id = "customs-name-brokers"
who = ["spiffe://customs.example/*"]
actions = ["share"]
filters = [{ types = ["association"] }]

[[grant]]
id = "operators"
who = ["spiffe://exchange.example/operator"]
actions = ["operate", "audit"]
all = true
"""
READY_WITHIN_S = 60
STOPPED_WITHIN_S = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="the tradelane program")
    parser.add_argument("command", nargs="+", help="what to run against the node")
    arguments = parser.parse_args()
    binary = arguments.binary.resolve()
    with tempfile.TemporaryDirectory(prefix="tradelane-clients-") as name:
        directory = Path(name)
        certificates = make_certificates(binary, directory / "pki")
        listen, operations = free_port(), free_port()
        settings = write_settings(directory, certificates, listen, operations)
        check = run(binary, "config", "check", "--config", settings)
        if check.returncode != 0:
            return fail(f"config check refuses the settings:\n{check.stdout}{check.stderr}")
        node = Node(binary, settings, directory)
        try:
            if not wait_until_ready(node.process, operations):
                return fail("the node did not become ready:\n" + (directory / "node.log").read_text())
            description = describe(directory, certificates, listen, operations)
            status = subprocess.run(
                arguments.command, env={**os.environ, "TRADELANE_TEST_NODE": str(description)}, check=False
            ).returncode
        finally:
            stopped = node.stop()
        if status != 0 or stopped != 0:
            log_tail = "".join((directory / "node.log").read_text().splitlines(keepends=True)[-60:])
            return fail(
                f"{arguments.command} exited with {status}, the node with {stopped}. The end of its log:\n{log_tail}"
            )
    return 0


class Node:
    """The node's process, started again each time that it was killed, until it is stopped."""

    def __init__(self, binary: Path, settings: Path, directory: Path) -> None:
        self._command = [binary, "serve", "--config", settings]
        self._log, self._process_file = directory / "node.log", directory / "node.pid"
        self._stopping = False
        self._lock = threading.Lock()
        self.process = self._start()
        threading.Thread(target=self._keep_running, name="node", daemon=True).start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("a") as log:
            process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT, env=environment())
        # Put in place as a whole: whoever reads it sees one process or the other.
        fresh = self._process_file.with_suffix(".new")
        fresh.write_text(str(process.pid))
        fresh.replace(self._process_file)
        return process

    def _keep_running(self) -> None:
        while self.process.wait() == -signal.SIGKILL:
            with self._lock:
                if self._stopping:
                    return
                self.process = self._start()

    def stop(self) -> int:
        """SIGTERM, as systemd sends it; a node that does not stop by then is killed, and has failed."""
        with self._lock:
            self._stopping = True
        return stop(self.process)


def make_certificates(binary: Path, root: Path) -> dict[str, tuple[Path, Path]]:
    """An authority for each trust domain, a certificate for the node and one for each participant: name -> (certificate, key)."""
    for domain in sorted({domain_of(spiffe_id) for spiffe_id in [NODE_ID, *PARTICIPANTS.values()]}):
        must(binary, "pki", "init", "--dir", root, domain)
    must(binary, "pki", "issue", "--dir", root, "--node", "--host", "localhost", NODE_ID)
    for spiffe_id in PARTICIPANTS.values():
        must(binary, "pki", "issue", "--dir", root, spiffe_id)
    files = {"node": files_of(root, NODE_ID)}
    files.update({name: files_of(root, spiffe_id) for name, spiffe_id in PARTICIPANTS.items()})
    return files


def files_of(root: Path, spiffe_id: str) -> tuple[Path, Path]:
    """Where `tradelane pki` keeps what it issues: the path of the name, with dashes, below its trust domain."""
    domain, _, path = spiffe_id.removeprefix("spiffe://").partition("/")
    stem = root / domain / path.replace("/", "-")
    return stem.with_name(stem.name + ".pem"), stem.with_name(stem.name + ".key")


def write_settings(directory: Path, certificates: dict[str, tuple[Path, Path]], listen: int, operations: int) -> Path:
    """The three files that a production node reads too."""
    root = directory / "pki"
    domains = sorted(path.name for path in root.iterdir() if path.is_dir())
    trust = "".join(
        f'[[domain]]\nname = "{domain}"\nbundle_file = "{root / domain / "ca.pem"}"\n'
        f'crl_files = ["{root / domain / "crl.pem"}"]\n'
        for domain in domains
    )
    (directory / "trust.toml").write_text(trust)
    (directory / "policy.toml").write_text(POLICY)
    certificate, key = certificates["node"]
    settings = directory / "tradelane.toml"
    settings.write_text(
        f'[node]\ndata_dir = "{directory / "data"}"\n'
        f'[listen]\naddress = "127.0.0.1:{listen}"\noperations_address = "127.0.0.1:{operations}"\n'
        f'[identity]\ncertificate_file = "{certificate}"\nprivate_key_file = "{key}"\n'
        'trust_file = "trust.toml"\npolicy_file = "policy.toml"\n'
    )
    (directory / "data").mkdir(mode=0o700)
    return settings


def describe(directory: Path, certificates: dict[str, tuple[Path, Path]], listen: int, operations: int) -> Path:
    """DESCRIPTION: what the command may know of the node, as JSON."""
    file = directory / "node.json"
    content = {
        "address": f"localhost:{listen}",
        "operations": f"http://127.0.0.1:{operations}",
        "process": str(directory / "node.pid"),
        "ca": str(directory / "pki" / domain_of(NODE_ID) / "ca.pem"),
        "participants": {
            name: {"id": spiffe_id, "cert": str(certificates[name][0]), "key": str(certificates[name][1])}
            for name, spiffe_id in PARTICIPANTS.items()
        },
    }
    file.write_text(json.dumps(content, indent=2))
    return file


def wait_until_ready(node: subprocess.Popen[bytes], operations: int) -> bool:
    """Asks the operations address, as an orchestrator would."""
    give_up_at = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up_at and node.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{operations}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return True
        except (urllib.error.URLError, OSError):
            pass  # Not listening yet, or not ready yet: asked again until the deadline.
        time.sleep(0.05)
    return False


def stop(node: subprocess.Popen[bytes]) -> int:
    if node.poll() is None:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()
    return node.returncode


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def domain_of(spiffe_id: str) -> str:
    return spiffe_id.removeprefix("spiffe://").partition("/")[0]


def environment() -> dict[str, str]:
    """Ours without TRADELANE_...: the program takes those for settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRADELANE_")}


def run(binary: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(part) for part in (binary, *arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


def must(binary: Path, *arguments: str | Path) -> None:
    done = run(binary, *arguments)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(a) for a in arguments)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")


def fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
