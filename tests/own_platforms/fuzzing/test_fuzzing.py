"""Generated requests to every route of every service: valid ones, nearly valid ones, and ones that follow each other.

The services' own API documents say what is sent and what may be returned: no server error, no undocumented status,
media type or schema, and every error is a problem document. `make test CASES=200` sends more requests.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Running
from tests.own_platforms.fuzzing.conftest import SERVICES

HERE = Path(__file__).parent
CASES = os.environ.get("CASES") or "5"
# The routes behind the gateway, without those that count failures by address, which is the same for all requests.
PUBLIC = ["--include-path-regex", r"^/(api/v1|\.well-known)/", "--exclude-path-regex", "/(login|token|password)$"]
# Services take the client's address from the gateway, which is on the same machine as the client here.
ELSEWHERE = ["--header", "X-Real-IP: 198.51.100.7"]


@dataclass(frozen=True, slots=True)
class Sender:
    """The role of the sender, the route of the requests, and their kinds."""

    role: str
    through_gateway: bool
    phases: str

    def __str__(self) -> str:
        return f"{self.role}-{'gateway' if self.through_gateway else 'direct'}"


# Validation does not depend on the role, so one sender tries the limits of every value.
SENDERS = [
    Sender("user", False, "examples,coverage,fuzzing,stateful"),
    Sender("admin", True, "fuzzing,stateful"),
    Sender("nobody", False, "fuzzing"),
]


@pytest.mark.timeout(120 + 20 * int(CASES))
@pytest.mark.parametrize("sender", SENDERS, ids=str)
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_answers_generated_requests_as_its_document_says(
    running: Running, tmp_path: Path, service: str, sender: Sender
) -> None:
    document = running.urls(service)[0] + "/openapi.json"
    target = running.gateway_url if sender.through_gateway else running.urls(service)[-1]
    environment = {"FUZZING_ROLE": sender.role, "FUZZING_ACCOUNTS": running.urls("user")[0]}

    report = await _generate(
        [document, "--url", target, "--phases", sender.phases, *(PUBLIC if sender.through_gateway else ELSEWHERE)],
        environment | {"FUZZING_DATA_DIR": str(running.data_dir)},
        tmp_path,
    )
    operations = report["operations"]
    assert operations["tested"] == operations["selected"] > 0
    if not sender.through_gateway:
        assert operations["selected"] == operations["total"]


async def _generate(arguments: list[str], environment: Mapping[str, str], tmp_path: Path) -> dict[str, Any]:
    """Send requests and return the report. Fails with the findings and the commands that reproduce them."""
    report = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run"],
        *[*arguments, "--max-examples", CASES, "--no-color", "--report-json-path", str(report)],
        env=os.environ | environment | {"PYTHONPATH": str(HERE), "PYTHONHASHSEED": "0"},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")
    found: dict[str, Any] = json.loads(report.read_text())
    return found
