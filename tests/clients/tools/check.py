"""Drives a running node with the tools that people type: `buf curl`, and grpcurl where one is installed. Both know the API by reflection
alone, over mutual TLS. Run by start_node.py, which sets TRADELANE_TEST_NODE."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import unittest
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.rpc.error_details_pb2 import BadRequest

NODE = json.loads(Path(os.environ["TRADELANE_TEST_NODE"]).read_text())
PORT = NODE["participants"]["port"]
TIMEOUT_S = 30
CONTAINER = "MSKU9070323"


def event(on: str, container: str = CONTAINER) -> dict[str, Any]:
    """What a person would type, in protobuf's JSON mapping."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {
        "eventId": str(uuid.uuid4()),
        "publisher": PORT["id"],
        "eventTime": now,
        "createdTime": now,
        "classifier": "CLASSIFIER_ACTUAL",
        "subjects": [
            {"kind": "IDENTIFIER_KIND_CONTAINER", "value": container},
            {"kind": "IDENTIFIER_KIND_VOYAGE", "value": on, "issuer": "MSK", "role": "SUBJECT_ROLE_CARRIED_BY"},
        ],
        "places": [{"role": "PLACE_ROLE_EVENT", "kind": "PLACE_KIND_TERMINAL", "unLocode": "PKKHI"}],
        "audience": {"reach": "REACH_NETWORK"},
        "handling": {"step": "HANDLING_STEP_GATED_OUT", "loadStatus": "LOAD_STATUS_LADEN"},
    }


def voyage() -> str:
    return f"V{uuid.uuid4().hex[:10].upper()}"


def of_voyage(on: str) -> dict[str, Any]:
    return {"filters": [{"subjects": [{"kind": "IDENTIFIER_KIND_VOYAGE", "value": on}]}]}


def documents(text: str) -> list[dict[str, Any]]:
    """JSON documents one after the other, as both tools print streams."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].strip()
    return found


# Field, what would be right, reason.
Violation = tuple[str, str, str]


class Tool:
    """One command line tool: how it is told what to call."""

    def command(self, target: str, request: dict[str, Any] | None) -> list[str]:
        raise NotImplementedError

    def run(self, target: str, request: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(target, request), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    def first_message(self, target: str, request: dict[str, Any], wanted: str) -> str:
        """Reads a stream that has no end until what is wanted came, and hangs up."""
        with subprocess.Popen(self.command(target, request), stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                seen = ""
                for line in process.stdout:
                    seen += line
                    if wanted in line:
                        return seen
                return seen
            finally:
                process.kill()


class BufCurl(Tool):
    def command(self, target: str, request: dict[str, Any] | None) -> list[str]:
        base = [
            "buf",
            "curl",
            "--protocol",
            "grpc",
            "--cacert",
            NODE["ca"],
            "--cert",
            PORT["cert"],
            "--key",
            PORT["key"],
        ]
        if request is None:
            return [*base, f"--list-{target}", f"https://{NODE['address']}"]
        return [*base, "-d", json.dumps(request), f"https://{NODE['address']}/tradelane.v1.EventService/{target}"]


class Grpcurl(Tool):
    def command(self, target: str, request: dict[str, Any] | None) -> list[str]:
        base = [
            "grpcurl",
            "-cacert",
            NODE["ca"],
            "-cert",
            PORT["cert"],
            "-key",
            PORT["key"],
            "-max-time",
            str(TIMEOUT_S),
        ]
        if request is None:
            return [*base, NODE["address"], *target.split()]
        return [*base, "-d", json.dumps(request), NODE["address"], f"tradelane.v1.EventService/{target}"]


class Checks:
    """What each tool must be able to do; the subclass names the tool."""

    tool: Tool
    exit_of_invalid_argument: int

    def violations(self, printed: str) -> list[Violation]:
        """The fields that are wrong, out of what the tool prints of a refusal's details."""
        raise NotImplementedError

    def test_publish_query_and_subscribe(self) -> None:
        on = voyage()
        published = self.tool.run("Publish", {"events": [{"event": event(on)}]})
        self.assertEqual(published.returncode, 0, published.stderr)
        [result] = documents(published.stdout)[0]["results"]
        listed = self.tool.run("ListEvents", of_voyage(on))
        self.assertEqual(listed.returncode, 0, listed.stderr)
        [recorded] = documents(listed.stdout)[0]["events"]
        self.assertEqual(recorded["position"], result["position"])
        self.assertEqual(recorded["signed"]["event"]["subjects"][0]["value"], CONTAINER)
        streamed = self.tool.first_message(
            "Subscribe", {"startAt": "START_AT_EARLIEST", **of_voyage(on)}, result["eventId"]
        )
        self.assertIn(result["eventId"], streamed)

    def test_a_refusal_exits_with_its_code_and_shows_its_details(self) -> None:
        refused = self.tool.run("Publish", {"events": [{"event": event(voyage(), container="MSKU9070320")}]})
        self.assertEqual(refused.returncode, self.exit_of_invalid_argument, refused.stderr)
        [violation] = self.violations(refused.stderr)
        self.assertEqual(
            violation, ("events[0].subjects[0].value", "check digit of MSKU9070320 is 3, not 0", "CHECK_DIGIT_WRONG")
        )


@unittest.skipUnless(shutil.which("buf"), "no buf on PATH")
class WithBufCurl(Checks, unittest.TestCase):
    tool = BufCurl()
    # Codes times eight.
    exit_of_invalid_argument = 24

    def violations(self, printed: str) -> list[Violation]:
        # It prints each detail as its type and its bytes in base64 without padding, as Connect has errors in JSON.
        [detail] = [one for one in json.loads(printed)["details"] if one["type"] == "google.rpc.BadRequest"]
        bad = BadRequest.FromString(base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4)))
        return [(one.field, one.description, one.reason) for one in bad.field_violations]

    def test_lists_services_and_methods_by_reflection(self) -> None:
        services = self.tool.run("services")
        self.assertIn("tradelane.v1.EventService", services.stdout, services.stderr)
        methods = self.tool.run("methods")
        self.assertIn("tradelane.v1.EventService/GetTimeline", methods.stdout, methods.stderr)


@unittest.skipUnless(shutil.which("grpcurl"), "no grpcurl on PATH: these checks run where one is installed")
class WithGrpcurl(Checks, unittest.TestCase):
    tool = Grpcurl()
    # 64 and the code.
    exit_of_invalid_argument = 67

    def violations(self, printed: str) -> list[Violation]:
        # It shows each detail as JSON, since the node's reflection knows what google.rpc says.
        details = [json.loads(line.split("\t", 1)[1]) for line in printed.splitlines() if ")\t{" in line]
        [bad] = [one for one in details if one["@type"].endswith("/google.rpc.BadRequest")]
        return [(one["field"], one["description"], one["reason"]) for one in bad["fieldViolations"]]

    def test_lists_and_describes_by_reflection(self) -> None:
        self.assertIn("tradelane.v1.EventService", self.tool.run("list").stdout)
        described = self.tool.run("describe tradelane.v1.EventService").stdout
        self.assertIn("rpc GetTimeline", described)
        self.assertIn("//", described, "the comments of the .proto files are the reference")


if __name__ == "__main__":
    unittest.main(verbosity=2)
