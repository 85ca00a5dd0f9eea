"""Runs the commands of the examples as the README shows them, with the files and the address of the node under test in place of the
README's. Run by start_node.py, which sets TRADELANE_TEST_NODE. TRADELANE_NODE_CLIENTS is where the JavaScript examples stand beside their
packages."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

NODE = json.loads(Path(os.environ["TRADELANE_TEST_NODE"]).read_text())
REPOSITORY = Path(__file__).resolve().parents[3]
CONTAINER = "MSKU9070323"
WAIT_S = 60


def command(program: str, example: str) -> list[str]:
    """The one command of the README that runs this example."""
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    [shown] = [line for line in lines if line.startswith(f"$ {program} tests/clients/{program}/{example}.")]
    words = shlex.split(shown.removeprefix("$ "))
    files = {"ca.pem": NODE["ca"]}
    for name in ("port", "customs"):
        who = NODE["participants"][name]
        files |= {f"{name}.pem": who["cert"], f"{name}.key": who["key"]}
    node_clients = os.environ["TRADELANE_NODE_CLIENTS"]
    words = [files.get(word, word.replace("tests/clients/node", node_clients)) for word in words]
    words[0] = sys.executable if program == "python" else program
    return [*words, "--address", NODE["address"]]


class ReadmeCommands(unittest.TestCase):
    def check(self, program: str) -> None:
        published = subprocess.run(
            command(program, "port_system"), capture_output=True, text=True, cwd=REPOSITORY, timeout=WAIT_S, check=False
        )
        self.assertEqual(published.returncode, 0, published.stderr)
        self.assertIn("is stored at", published.stdout)
        with tempfile.TemporaryDirectory() as folder:
            following = [*command(program, "customs_client"), "--position-file", str(Path(folder, "position"))]
            with subprocess.Popen(following, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
                # It never ends by itself, and a test that waits in vain is ended by whoever runs it.
                assert process.stdout is not None
                seen = next((line for line in process.stdout if CONTAINER in line), None)
                process.kill()
            self.assertIsNotNone(seen, "customs never heard of the container")

    def test_those_in_python(self) -> None:
        self.check("python")

    def test_those_in_javascript(self) -> None:
        self.check("node")


if __name__ == "__main__":
    unittest.main(verbosity=2)
