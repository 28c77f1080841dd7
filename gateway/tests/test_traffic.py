"""The command `traffic` on a running NGINX: what it changes, when it returns, and what it restores after a failure."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config.container import traffic as command
from gateway_config.container.nginx import ReloadFailed
from gateway_config.testing.harness import HeldResponse, InstalledGateway
from gateway_config.testing.requests import ASK_FOR_CANARY
from gateway_config.testing.running import RunningGateway
from servicekit.testing.kept_alive import KeptAliveClients

pytestmark = pytest.mark.servers

Traffic = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def traffic(installed: InstalledGateway, capsys: pytest.CaptureFixture[str]) -> Traffic:
    """Return what runs the command and gives its exit status, stdout and stderr."""

    async def run(*words: str, **changes: Any) -> tuple[int, str, str]:
        status = await asyncio.to_thread(command.main, words, replace(installed.installation, **changes))
        return status, *capsys.readouterr()

    return run


async def bodies(gateway: RunningGateway, requests: int = 20) -> set[bytes]:
    return {(await gateway.get("/api/v1/notes")).body for _ in range(requests)}


async def test_a_release_moves_all_traffic_and_back(installed: InstalledGateway, traffic: Traffic) -> None:
    """Once the command has returned, the new weight applies to every new connection."""
    gateway = installed.gateway
    assert await traffic() == (0, "{}\n", "")

    assert await traffic("notes", "0") == (0, '{"notes": {"weight": 0}}\n', "")
    assert await bodies(gateway) == {b"stable"}
    assert (await gateway.get("/api/v1/notes", headers=ASK_FOR_CANARY)).body == b"canary"

    assert (await traffic("notes", "100"))[0] == 0
    assert await bodies(gateway) == {b"canary"}
    assert (await gateway.get("/api/v1/assets")).body == b"stable"
    assert await traffic() == (0, '{"notes": {"weight": 100}}\n', "")

    assert await traffic("notes", "off") == (0, "{}\n", "")
    assert await bodies(gateway) == {b"stable"}
    assert (await gateway.get("/api/v1/notes", headers=ASK_FOR_CANARY)).body == b"stable"


async def test_no_request_is_lost_while_traffic_moves(installed: InstalledGateway, traffic: Traffic) -> None:
    gateway = installed.gateway
    async with KeptAliveClients(gateway.port, path="/api/v1/notes", token=gateway.token, count=8) as clients:
        await clients.more(20)
        for weight in ("50", "100", "0", "off"):
            assert (await traffic("notes", weight))[0] == 0
            await clients.more(50)

    assert clients.lost == {}
    assert set(clients.statuses) == {200}
    assert installed.canary.seen()


async def test_a_request_in_flight_does_not_delay_the_command(installed: InstalledGateway, traffic: Traffic) -> None:
    installed.stable.respond = held = HeldResponse()
    pending = asyncio.create_task(installed.gateway.get("/api/v1/notes"))
    await held.arrived.wait()

    assert (await traffic("notes", "100"))[0] == 0
    held.release()
    assert (await pending).body == b"late"


async def test_drain_waits_for_requests_that_an_earlier_state_has_begun(
    installed: InstalledGateway, traffic: Traffic
) -> None:
    installed.stable.respond = held = HeldResponse()
    pending = asyncio.create_task(installed.gateway.get("/api/v1/notes"))
    await held.arrived.wait()
    await traffic("notes", "100")

    drained = asyncio.create_task(traffic("drain"))
    assert not (await asyncio.wait([drained], timeout=0.3))[0]
    held.release()

    assert await drained == (0, "", "")
    assert (await pending).body == b"late"


async def test_two_simultaneous_changes_both_take_effect(installed: InstalledGateway) -> None:
    runs = (("notes", "10"), ("assets", "20"))
    installation = installed.installation

    assert await asyncio.gather(*(asyncio.to_thread(command.main, run, installation) for run in runs)) == [0, 0]

    assert json.loads(installation.release_file.read_text()) == {"notes": {"weight": 10}, "assets": {"weight": 20}}


async def test_an_unavailable_canary_gets_no_traffic(
    installed: InstalledGateway, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "REACHED_SECONDS", 0.2)
    await installed.canary.stop()

    status, output, reason = await traffic("notes", "25")

    assert (status, output) == (1, "")
    assert reason == f"traffic: {installed.canary.address} does not answer through the gateway (502)\n"
    assert await traffic() == (0, "{}\n", "")
    assert await bodies(installed.gateway) == {b"stable"}


def rendered(installed: InstalledGateway) -> dict[str, str]:
    folder = installed.installation.target / "rendered"
    return {str(path): path.read_text() for path in folder.rglob("*.conf")}


async def test_a_configuration_that_nginx_refuses_changes_nothing(
    installed: InstalledGateway, traffic: Traffic
) -> None:
    before = rendered(installed)

    # The renderer accepts this port, and NGINX does not.
    status, _, reason = await traffic("assets", "0", canary_server="[::1]:99999")

    assert status == 1
    assert "NGINX refuses the configuration" in reason
    assert await traffic() == (0, "{}\n", "")
    assert rendered(installed) == before
    assert await bodies(installed.gateway) == {b"stable"}


async def test_a_failed_reload_is_undone(
    installed: InstalledGateway, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    await traffic("notes", "0")
    before = rendered(installed)
    reload, failures = command.reload, iter([ReloadFailed("NGINX goes on")])

    def failing_once(target: Path) -> None:
        for failure in failures:
            raise failure
        reload(target)

    monkeypatch.setattr(command, "reload", failing_once)

    assert await traffic("notes", "100") == (1, "", "traffic: NGINX goes on\n")
    assert await traffic() == (0, '{"notes": {"weight": 0}}\n', "")
    assert rendered(installed) == before
    assert await bodies(installed.gateway) == {b"stable"}


async def test_without_nginx_nothing_changes(installed: InstalledGateway, traffic: Traffic) -> None:
    await installed.gateway.finish()

    status, _, reason = await traffic("notes", "0")

    assert (status, reason.split(":")[:2]) == (1, ["traffic", " NGINX does not run"])
    assert await traffic() == (0, "{}\n", "")
