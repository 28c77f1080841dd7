"""Read which keys each worker holds (`servicekit.observability.key_metrics`)."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from servicekit.observability.key_metrics import HOLDERS_METRIC, STATE_METRIC, KeyState
from servicekit.ops.rotation.errors import FleetUnknown, WorkersDisagree
from servicekit.ops.rotation.fleet import Fleet

POLL_SECONDS: Final = 0.25
SCRAPE_SECONDS: Final = 5.0
# A wait is reported when it takes longer than usual, and again from time to time.
USUAL_SECONDS: Final = 1.5
REMIND_SECONDS: Final = 5.0
# Reasons reported at once; more would bury the rest of the output.
REPORTED: Final = 3

Say = Callable[[str], None]
# Returns the metrics of a replica. Raises OSError or TimeoutError.
Scrape = Callable[[str], Awaitable[str]]
# The state of each key in one worker, by set.
WorkerKeys = Mapping[str, Mapping[str, int]]


class Need(StrEnum):
    """The state of a key that a rotation waits for."""

    HELD = "held"
    IN_USE = "in use"
    SOLE = "sole"


_LACKS: Final = {
    Need.HELD: "lacks the new key of",
    Need.IN_USE: "does not use the new key yet of",
    Need.SOLE: "still holds an old key of",
}


@dataclass(frozen=True, slots=True)
class Demand:
    """What every worker of these services has to report before a rotation goes on. None means all services."""

    services: frozenset[str] | None
    set: str
    key: str
    need: Need

    def concerns(self, service: str) -> bool:
        """Return whether the demand includes this service's workers."""
        return self.services is None or service in self.services

    def is_met_by(self, worker: WorkerKeys) -> bool:
        """Return whether this worker's report satisfies the demand."""
        states = worker.get(self.set, {})
        state = states.get(self.key, KeyState.DROPPED)
        if self.need is Need.HELD:
            return state >= KeyState.HELD
        if self.need is Need.IN_USE:
            return state == KeyState.IN_USE
        others = (other for key, other in states.items() if key != self.key)
        return state >= KeyState.HELD and not any(others)


class Agreement(Protocol):
    """Waits for workers."""

    async def require(self, services: Collection[str]) -> None:
        """Raise RotationError unless the workers of these services can be found."""

    async def reach(self, demands: Sequence[Demand]) -> None:
        """Return once every worker meets every demand. Raises RotationError when that takes too long."""


def worker_reports(text: str) -> dict[str, WorkerKeys]:
    """Return the report of each worker that has announced itself, by process id, from a replica's metrics."""
    announced: set[str] = set()
    states: dict[str, dict[str, dict[str, int]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            pid = sample.labels.get("pid", "")
            if sample.name == HOLDERS_METRIC and sample.value == 1:
                announced.add(pid)
            elif sample.name == STATE_METRIC:
                keys = states.setdefault(pid, {}).setdefault(sample.labels["set"], {})
                keys[sample.labels["key"]] = int(sample.value)
    return {pid: states.get(pid, {}) for pid in announced}


class Workers:
    """All workers of the fleet, seen through the metrics of their replicas."""

    def __init__(self, fleet: Fleet, *, timeout: float, say: Say, scrape: Scrape | None = None) -> None:
        """Take the longest time for one wait, in seconds, as `timeout`."""
        self._fleet = fleet
        self._timeout = timeout
        self._say = say
        self._scrape = scrape or scrape_metrics

    async def require(self, services: Collection[str]) -> None:
        await self._fleet.require(services)

    async def reach(self, demands: Sequence[Demand]) -> None:
        """Ask until every worker meets every demand. Raises `WorkersDisagree` with the missing reports."""
        clock = asyncio.get_running_loop().time
        end, report_at = clock() + self._timeout, clock() + USUAL_SECONDS
        while missing := await self._missing(demands):
            if clock() >= end:
                raise WorkersDisagree(
                    f"after {self._timeout:.0f} s {'; '.join(missing)}. All workers still hold every key in use, so "
                    "nothing is lost. Fix this and run the command again: it continues from here"
                )
            if clock() >= report_at:
                more = f"; {len(missing) - REPORTED} more" if len(missing) > REPORTED else ""
                self._say(f"  waiting: {'; '.join(missing[:REPORTED])}{more}")
                report_at = clock() + REMIND_SECONDS
            await asyncio.sleep(POLL_SECONDS)

    async def _missing(self, demands: Sequence[Demand]) -> list[str]:
        """Return the reasons why the rotation has to wait: at most one per replica."""
        try:
            replicas = await self._fleet.replicas()
        except FleetUnknown as error:
            return [str(error)]
        wanted = {service: [demand for demand in demands if demand.concerns(service)] for service in replicas}
        asked = [(service, url) for service, urls in replicas.items() if wanted[service] for url in urls]
        reasons = await asyncio.gather(*(self._ask(f"{name} at {url}", url, wanted[name]) for name, url in asked))
        return [reason for reason in reasons if reason]

    async def _ask(self, replica: str, url: str, demands: Iterable[Demand]) -> str:
        """Return what a replica lacks, or '' when all of its workers meet the demands."""
        try:
            workers = worker_reports(await self._scrape(url))
        except (OSError, TimeoutError, ValueError):
            return f"{replica} does not respond"
        if not workers:
            return f"{replica} does not report which keys its workers hold"
        lacking = [
            f"worker {pid} of {replica} {_LACKS[demand.need]} {demand.set}"
            for pid, keys in workers.items()
            for demand in demands
            if not demand.is_met_by(keys)
        ]
        return lacking[0] if lacking else ""


async def scrape_metrics(url: str) -> str:
    """Return the metrics of the replica at this base URL. Raises OSError or TimeoutError."""
    # A new connection each time: a kept one would always reach the same worker, even one that is stopping.
    timeout = aiohttp.ClientTimeout(total=SCRAPE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
        try:
            async with session.get(f"{url}/metrics") as response:
                return await response.text()
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error
