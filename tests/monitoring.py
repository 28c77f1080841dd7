"""Prometheus and Alertmanager beside a running platform, with the rules of production."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from deploy.observability.tests.rules import FILES, FOLDER, tool
from servicekit.core.tasks import background_task
from servicekit.testing.ports import held_port
from servicekit.testing.serving import http_client
from tests.conftest import Running

PROMETHEUS, ALERTMANAGER = tool("prometheus"), tool("alertmanager")
PATIENCE_SECONDS = 60.0
# The disk is this machine's, and the platform does not fill it.
DISKS = {"DiskAlmostFull", "DiskFull"}
_LABELS = ("alertname", "service", "peer", "destination", "store", "route", "upstream", "reason", "signal")


def shortened(rules: str) -> str:
    """Return rules that look back 15 s and wait 2 s. An event is delayed after 5 s."""
    rules = re.sub(r"for: \d+[mh]", "for: 2s", re.sub(r"\[\d+m\]", "[15s]", rules))
    return rules.replace("oldest_seconds) > 300", "oldest_seconds) > 5")


def title(labels: Mapping[str, str]) -> str:
    """Return the name of an alert and what it is about: `StoreDown user postgres`."""
    return " ".join(labels[name] for name in _LABELS if name in labels)


@dataclass(frozen=True, slots=True)
class Alerts:
    """What Prometheus and Alertmanager say."""

    prometheus: httpx2.AsyncClient
    alertmanager: str

    async def firing(self) -> set[str]:
        """Return the titles of the alerts that fire."""
        alerts = (await self.prometheus.get("/api/v1/alerts")).json()["data"]["alerts"]
        return {
            title(alert["labels"])
            for alert in alerts
            if alert["state"] == "firing" and alert["labels"]["alertname"] not in DISKS
        }

    async def shown(self) -> set[str]:
        """Return the titles of the alerts that Alertmanager has received."""
        alerts = (await self.prometheus.get(f"{self.alertmanager}/api/v2/alerts")).json()
        return {title(alert["labels"]) for alert in alerts}

    async def fire(self, *expected: str, meanwhile: Callable[[], Awaitable[object]]) -> None:
        """Wait until each of these alerts has fired; send requests meanwhile."""
        missing = set(expected)

        async def again_and_again() -> None:
            while True:
                await meanwhile()
                await asyncio.sleep(0.2)

        try:
            async with background_task(again_and_again()), asyncio.timeout(PATIENCE_SECONDS):
                while missing:
                    missing -= await self.firing()
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"these alerts do not fire: {sorted(missing)}") from None

    async def value(self, query: str) -> float:
        """Return what a query for one value finds, or 0."""
        response = await self.prometheus.get("/api/v1/query", params={"query": query})
        return sum(float(found["value"][1]) for found in response.raise_for_status().json()["data"]["result"])

    async def until_up(self, targets: int) -> None:
        """Wait until so many targets are scraped."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with suppress(httpx2.HTTPError):
                    if await self.value("sum(up)") == targets:
                        return
                await asyncio.sleep(0.2)


@asynccontextmanager
async def watching(running: Running, folder: Path, *, short: bool) -> AsyncIterator[Alerts]:
    """Run a Prometheus that scrapes a platform, and an Alertmanager. With `short`, rules look back seconds."""
    (folder / "rules").mkdir(parents=True)
    for path in FILES:
        rules = path.read_text()
        (folder / "rules" / path.name).write_text(shortened(rules) if short else rules)
    targets = {name: [url.removeprefix("http://") for url in running.urls(name)] for name in running.platform.catalog}
    gateway = running.platform.gateway_metrics_url.split("/")[2]
    with held_port() as port, held_port() as alertmanager_port:
        alertmanager = f"127.0.0.1:{alertmanager_port}"
        configuration = _configuration(targets, gateway, alertmanager, short=short)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                process(
                    str(PROMETHEUS),
                    "--log.level=error",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                )
            )
            await stack.enter_async_context(
                process(
                    str(ALERTMANAGER),
                    "--log.level=error",
                    f"--config.file={FOLDER / 'alertmanager.yml'}",
                    f"--storage.path={folder / 'alertmanager'}",
                    f"--web.listen-address={alertmanager}",
                    "--cluster.listen-address=",
                )
            )
            prometheus = await stack.enter_async_context(http_client(f"http://127.0.0.1:{port}", timeout=10))
            alerts = Alerts(prometheus, f"http://{alertmanager}")
            await alerts.until_up(1 + sum(map(len, targets.values())))
            yield alerts


@asynccontextmanager
async def process(*command: str, **variables: str) -> AsyncIterator[None]:
    """Run a command while the context is open, with these variables of the environment added."""
    started = await asyncio.create_subprocess_exec(*command, env={**os.environ, **variables})
    try:
        yield
    finally:
        started.terminate()
        await started.wait()


def _configuration(
    targets: Mapping[str, Sequence[str]], gateway: str, alertmanager: str, *, short: bool
) -> Mapping[str, Any]:
    """Return the configuration of production, with these addresses in place of what DNS would find."""
    production = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    services = [{"targets": addresses, "labels": {"service": name}} for name, addresses in targets.items()]
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"} if short else production["global"],
        "rule_files": production["rule_files"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": "services", "static_configs": services},
            {"job_name": "gateway", "static_configs": [{"targets": [gateway]}]},
        ],
    }
