"""The start of the whole platform when something fails, and the order in which it stops."""

import asyncio
import json
import os
import re
import signal
import sys

import pytest

from local_platform.platform.launcher import Platform, prepared
from local_platform.platform.options import Options
from local_platform.supervision.managed_process import ManagedProcess, State
from local_platform.supervision.probes import http_get
from local_platform.supervision.status_table import StatusTable

pytestmark = pytest.mark.servers

STORES = ("postgres", "mongo", "valkey")


async def test_a_service_that_cannot_start_ends_the_start_with_the_end_of_its_log(tmp_path):
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local_platform", "run", "--gateway-port", "0", "--data-dir", str(tmp_path / "data")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "CONSOLE": "off", "DATABASE_CONNECTIONS": "2"},
    )
    output, standard_error = await launcher.communicate()
    errors = standard_error.decode()
    assert (launcher.returncode, output) == (1, b"")
    found = re.search(r"^error: .*\n(  \| .*\n)+Its log: .*/(.*)\.log$", errors, re.MULTILINE)
    assert found, errors
    logs = tmp_path / "data" / "logs"
    apart = (logs / f"{found[2]}.error.log").read_text().splitlines()
    assert {json.loads(line)["level"] for line in apart} == {"ERROR"}
    assert set(apart) <= set((logs / f"{found[2]}.log").read_text().splitlines())


@pytest.fixture(scope="module")
async def observed(tmp_path_factory) -> tuple[Platform, set[str], list[str]]:
    """A platform that has stopped; the processes that were killed while it started; the order of its stops."""
    data_dir = tmp_path_factory.mktemp("observed")
    killed: set[str] = set()
    order: list[str] = []

    def kill_once(process: ManagedProcess) -> None:
        if process.pid is not None and process.name not in killed:
            killed.add(process.name)
            os.kill(process.pid, signal.SIGKILL)

    def note_stops(process: ManagedProcess) -> None:
        service = process.spec.service
        kind = "gateway" if service == "gateway" else "store" if service in STORES else "service"
        if process.state in (State.STOPPING, State.STOPPED):
            order.append(f"{kind} {process.state}")

    options = Options(data_dir, gateway_port=0, replicas=2, mongo_nodes=3)
    async with prepared(options, StatusTable(), asyncio.Event()) as platform:
        platform.supervisor.listen(kill_once)
        try:
            await platform.start()
            status, _ = await http_get(f"{platform.gateway_url}/lb-health")
            assert status == 200
            run = json.loads((data_dir / "run.json").read_text())
            first = next(process["name"] for process in run["processes"] if process["service"] == "mongo")
            async with platform.stores.mongo.client() as client:
                await client.admin.command("ping")
                assert platform.stores.mongo_name(await client.primary) == first
        finally:
            platform.supervisor.listen(note_stops)
            await platform.stop()
    return platform, killed, order


async def test_every_process_may_be_killed_once_while_the_platform_starts(observed):
    platform, killed, _ = observed
    assert killed == {process.name for process in platform.supervisor.processes.values()}


async def test_callers_stop_before_callees(observed):
    _, _, order = observed
    assert list(dict.fromkeys(order)) == [
        *("gateway stopping", "gateway stopped", "service stopping", "service stopped"),
        *("store stopping", "store stopped"),
    ]
