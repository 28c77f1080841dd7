"""Prometheus, with the rules of production, watches a platform whose parts fail. Durations are shortened."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from deploy.observability.tests.rules import FILES, FOLDER, tool
from servicekit.testing.ports import held_port

PROMETHEUS, ALERTMANAGER = tool("prometheus"), tool("alertmanager")
PATIENCE_SECONDS = 60.0
# Those of this machine are none of the platform's.
DISKS = {"DiskAlmostFull", "DiskFull"}
QUIET_SECONDS = 25

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.needs("analytics", "notes"),
    pytest.mark.skipif(
        PROMETHEUS is None or ALERTMANAGER is None, reason="prometheus is not built: make observability-tools"
    ),
]


def shortened(rules: str) -> str:
    """Return rules that look back 20 s and wait 2 s."""
    return re.sub(r"for: \d+[mh]", "for: 2s", re.sub(r"\[\d+m\]", "[20s]", rules))


@dataclass(frozen=True, slots=True)
class Alerts:
    """What Prometheus and Alertmanager say."""

    http: httpx2.AsyncClient
    alertmanager: str

    async def firing(self) -> set[str]:
        """Return the alerts that fire."""
        alerts = (await self.http.get("/api/v1/alerts")).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"} - DISKS

    async def shown(self) -> set[str]:
        """Return the alerts that Alertmanager has received."""
        alerts = (await self.http.get(f"{self.alertmanager}/api/v2/alerts")).json()
        return {alert["labels"]["alertname"] for alert in alerts}

    async def up(self) -> int:
        """Return how many targets are up."""
        response = await self.http.get("/api/v1/query", params={"query": "sum(up)"})
        return sum(int(found["value"][1]) for found in response.json()["data"]["result"])

    async def fire(self, *expected: str, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        """Wait until all of these have fired at some time; send requests meanwhile."""
        seen: set[str] = set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not set(expected) <= seen:
                if meanwhile:
                    await meanwhile()
                seen |= await self.firing()
                await asyncio.sleep(0.2)


@asynccontextmanager
async def prometheus(running: Any, folder: Path) -> AsyncIterator[Alerts]:
    """Run a Prometheus that scrapes the platform."""
    gateway = running.platform.gateway_metrics_url.split("/")[2]
    (folder / "rules").mkdir(parents=True)
    for path in FILES:
        (folder / "rules" / path.name).write_text(shortened(path.read_text()))
    targets = {name: [url.removeprefix("http://") for url in running.urls(name)] for name in running.platform.catalog}
    with held_port() as port, held_port() as alertmanager_port:
        alertmanager = f"127.0.0.1:{alertmanager_port}"
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration(targets, gateway, alertmanager)))
        commands = [
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ],
            [
                ALERTMANAGER,
                f"--config.file={FOLDER / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
                "--log.level=error",
            ],
        ]
        async with AsyncExitStack() as stack:
            for command in commands:
                await stack.enter_async_context(process(*map(str, command)))
            http = await stack.enter_async_context(
                httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=10)
            )
            alerts = Alerts(http, f"http://{alertmanager}")
            await until_up(alerts, 1 + sum(map(len, targets.values())))
            yield alerts


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[None]:
    """Run a command while the context is open."""
    started = await asyncio.create_subprocess_exec(*command)
    try:
        yield
    finally:
        started.terminate()
        await started.wait()


def configuration(targets: Mapping[str, list[str]], gateway: str, alertmanager: str) -> Mapping[str, Any]:
    """Return a configuration of Prometheus with these replicas in place of what DNS would find."""
    services = [{"targets": addresses, "labels": {"service": name}} for name, addresses in targets.items()]
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": "services", "static_configs": services},
            {"job_name": "gateway", "static_configs": [{"targets": [gateway]}]},
        ],
    }


async def until_up(alerts: Alerts, count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(httpx2.HTTPError):
                if (await alerts.http.get("/-/ready")).is_success and await alerts.up() == count:
                    return
            await asyncio.sleep(0.2)


@asynccontextmanager
async def stopped(platform: Any, *names: str) -> AsyncIterator[None]:
    """Stop processes while the context is open."""
    for name in names:
        await platform.stop_process(name)
    try:
        yield
    finally:
        await asyncio.gather(*map(platform.start_process, names))


async def test_faults_fire_their_alerts_and_a_quiet_platform_fires_none(
    run: Any, tmp_path: Path, sign_up: Callable[[httpx2.AsyncClient], Awaitable[Any]]
) -> None:
    async with (
        run(tmp_path / "platform", replicas=2, GATEWAY_RATE_AUTH="1") as running,
        httpx2.AsyncClient(base_url=running.gateway_url, timeout=20, trust_env=False, verify=False) as gateway,
        prometheus(running, tmp_path / "prometheus") as alerts,
    ):
        platform = running.platform
        user = await sign_up(gateway)

        async def read(*paths: str, times: int = 5) -> None:
            for _ in range(times):
                for path in paths:
                    await gateway.get(path, headers=user.headers)

        fired: set[str] = set()
        end = asyncio.get_running_loop().time() + QUIET_SECONDS
        while asyncio.get_running_loop().time() < end:
            await read("/api/v1/users/profile", "/api/v1/notes", "/api/v1/analytics/stats")
            fired |= await alerts.firing()
            await asyncio.sleep(0.5)
        assert fired == set()

        async def log_in() -> None:
            for _ in range(10):
                await gateway.post("/api/v1/users/login", json={"username_or_email": "a", "password": "b" * 8})

        await alerts.fire("LimitsHit", meanwhile=log_in)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "LimitsHit" not in await alerts.shown():
                await asyncio.sleep(0.2)

        async with stopped(platform, "notes-2"):
            await alerts.fire("ReplicaDown")
            async with stopped(platform, "notes-1"):
                await alerts.fire(
                    "ServiceUnavailable", "UpstreamFails", "GatewayErrors", meanwhile=lambda: read("/api/v1/notes")
                )

        async with stopped(platform, "user-1", "user-2"):
            await alerts.fire("PeerCallsFail", "BreakerOpen", meanwhile=lambda: read("/api/v1/analytics/stats"))
