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
ANSWER_SECONDS: Final = 5.0
# A wait is mentioned when it takes longer than usual, and again from time to time.
USUAL_SECONDS: Final = 1.5
REMIND_SECONDS: Final = 5.0
# More would bury the rest of the output.
MENTIONED: Final = 3

Say = Callable[[str], None]
# Returns what a replica's /metrics answers; raises OSError or TimeoutError without an answer.
Scrape = Callable[[str], Awaitable[str]]
# What one worker does with the keys of each set.
WorkerKeys = Mapping[str, Mapping[str, int]]


class Need(StrEnum):
    """What a worker has to say about a key."""

    HELD = "held"
    IN_USE = "in use"
    ALONE = "alone"


_LACKS: Final = {
    Need.HELD: "lacks the new key of",
    Need.IN_USE: "does not use the new key yet of",
    Need.ALONE: "still holds an old key of",
}


@dataclass(frozen=True, slots=True)
class Demand:
    """What every worker of these services, None: of all, has to say before a rotation goes on."""

    services: frozenset[str] | None
    set: str
    key: str
    need: Need

    def concerns(self, service: str) -> bool:
        """Whether this service's workers are meant."""
        return self.services is None or service in self.services

    def is_met_by(self, worker: WorkerKeys) -> bool:
        """Whether this worker's report suffices."""
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
        """Raise RotationError unless it can be known who the workers of these services are."""

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
        """`timeout` in seconds is what one wait may take."""
        self._fleet = fleet
        self._timeout = timeout
        self._say = say
        self._scrape = scrape or scrape_metrics

    async def require(self, services: Collection[str]) -> None:
        await self._fleet.require(services)

    async def reach(self, demands: Sequence[Demand]) -> None:
        """Ask until every worker meets every demand. Raises `WorkersDisagree` with what is still missing."""
        clock = asyncio.get_running_loop().time
        end, mention_at = clock() + self._timeout, clock() + USUAL_SECONDS
        while missing := await self._missing(demands):
            if clock() >= end:
                raise WorkersDisagree(
                    f"after {self._timeout:.0f} s {'; '.join(missing)}. Every key in use is still held by everybody: "
                    "nothing is lost. Put this right and run the command again, it goes on from here"
                )
            if clock() >= mention_at:
                more = f"; {len(missing) - MENTIONED} more" if len(missing) > MENTIONED else ""
                self._say(f"  waiting: {'; '.join(missing[:MENTIONED])}{more}")
                mention_at = clock() + REMIND_SECONDS
            await asyncio.sleep(POLL_SECONDS)

    async def _missing(self, demands: Sequence[Demand]) -> list[str]:
        """Return what keeps the rotation from going on, for the user: at most one reason for each replica."""
        try:
            replicas = await self._fleet.replicas()
        except FleetUnknown as error:
            return [str(error)]
        wanted = {service: [demand for demand in demands if demand.concerns(service)] for service in replicas}
        asked = [(service, url) for service, urls in replicas.items() if wanted[service] for url in urls]
        answers = await asyncio.gather(*(self._ask(f"{name} at {url}", url, wanted[name]) for name, url in asked))
        return [reason for reason in answers if reason]

    async def _ask(self, replica: str, url: str, demands: Iterable[Demand]) -> str:
        """Return what a replica lacks, nothing when all of its workers meet the demands."""
        try:
            workers = worker_reports(await self._scrape(url))
        except (OSError, TimeoutError, ValueError):
            return f"{replica} does not answer"
        if not workers:
            return f"{replica} does not say which keys its workers hold"
        lacking = [
            f"worker {pid} of {replica} {_LACKS[demand.need]} {demand.set}"
            for pid, keys in workers.items()
            for demand in demands
            if not demand.is_met_by(keys)
        ]
        return lacking[0] if lacking else ""


async def scrape_metrics(url: str) -> str:
    """Return what the replica at this base URL exposes. Raises OSError or TimeoutError."""
    # A connection of its own each time: a kept one would ask the same worker for ever, even one that is leaving.
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
        try:
            async with session.get(f"{url}/metrics") as answer:
                return await answer.text()
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error
