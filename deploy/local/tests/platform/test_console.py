"""The console beside the platform: one process, which nothing waits for."""

import asyncio
import json

import pytest

from local_platform.platform.launcher import prepared, running_platform
from local_platform.platform.options import Options
from local_platform.supervision.managed_process import State
from local_platform.supervision.probes import http_get
from local_platform.supervision.status_table import StatusTable
from opskit.catalog import ServiceEntry, read_catalog

pytestmark = pytest.mark.servers


async def test_it_is_one_process_that_the_services_know(tmp_path):
    async with running_platform(tmp_path / "data", replicas=2, console=True) as platform:
        await platform.supervisor.processes["console"].wait_ready()
        processes = json.loads((tmp_path / "data" / "run.json").read_text())["processes"]
        (console,) = (process for process in processes if process["service"] == "console")
        environments = {name: one.spec.command.environment for name, one in platform.supervisor.processes.items()}
        own = environments["console"]

        assert (console["name"], console["url"]) == ("console", platform.console_url)
        assert own["WEB_CONCURRENCY"] == "1"
        # It sends nothing to itself.
        assert own["CONSOLE_URL"] == ""
        assert own["MAIL_DIR"] == str(tmp_path / "data" / "mail")
        assert own["CONSOLE_ROTATE_COMMAND"].endswith(f"rotate-keys --data-dir {tmp_path / 'data'}")
        assert json.loads(own["PEER_URLS"]).keys() == set(read_catalog())
        for process in processes:
            if process["service"] in read_catalog():
                assert environments[process["name"]]["CONSOLE_URL"] == platform.console_url
                assert "MAIL_DIR" not in environments[process["name"]]
        _, body = await http_get(f"{platform.gateway_url}/lb-health")
        assert json.loads(body)["services"].keys() == set(read_catalog())


async def test_one_that_cannot_start_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(ServiceEntry, "application", "missing:create_app()")
    warnings: asyncio.Queue[str] = asyncio.Queue()
    options = Options(tmp_path / "data", gateway_port=0, console=True)
    async with prepared(options, StatusTable(), asyncio.Event(), warnings.put_nowait) as platform:
        try:
            platform.start_console()
            assert (await warnings.get()).startswith("warning: console does not start: ")
            assert platform.supervisor.processes["console"].state is State.FAILED
        finally:
            await platform.stop()
