"""Subjects, the samples of their slices, and the arithmetic on them."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Sample:
    """One slice of one subject: its requests, the CPU seconds of its processes, and latencies in seconds."""

    requests: int
    seconds: float
    cpu: float = 0.0
    latencies: tuple[float, ...] = ()
    memory: float = 0.0
    # The share of a core that the client used: near 1, the client and not the subject was the limit.
    client: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds per request."""
        return self.cpu / self.requests * 1e6

    @classmethod
    def of(cls, times: Sequence[float], **figures: Any) -> "Sample":
        """Return a sample with the percentiles of request times."""
        return cls(latencies=tuple(percentile(times, rank) for rank in PERCENTILES), **figures)

    @property
    def p50(self) -> float:
        return self.latencies[0] * 1000

    @property
    def p95(self) -> float:
        return self.latencies[1] * 1000

    @property
    def p99(self) -> float:
        return self.latencies[2] * 1000


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to measure: `run` runs it for about so many seconds."""

    name: str
    run: Callable[[float], Awaitable[Sample]]


def calls(name: str, call: Callable[[], Awaitable[object]], in_flight: int) -> Subject:
    """Return a subject that awaits `call` repeatedly in this process, whose CPU counts."""

    async def run(seconds: float) -> Sample:
        times: list[float] = []
        started, cpu = time.perf_counter(), time.process_time()
        ends = started + seconds

        async def worker() -> None:
            while (moment := time.perf_counter()) < ends:
                await call()
                times.append(time.perf_counter() - moment)

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        used, took = time.process_time() - cpu, time.perf_counter() - started
        return Sample.of(times, requests=len(times), seconds=took, cpu=used)

    return Subject(name, run)


def repeated(name: str, function: Callable[[], object]) -> Subject:
    """Return a subject that calls a function repeatedly in this process, whose CPU counts."""

    async def run(seconds: float) -> Sample:
        count, started, cpu = 0, time.perf_counter(), time.process_time()
        while (took := time.perf_counter() - started) < seconds:
            function()
            count += 1
        return Sample(count, took, cpu=time.process_time() - cpu)

    return Subject(name, run)


def percentile(values: Sequence[float], rank: float) -> float:
    """Return a percentile, interpolated between the two nearest values; 0 if there are no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * rank / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


# How two samples of one round compare. Shares are better when they are high, multiples when they are low.
COMPARISONS: Final[dict[str, Callable[[Sample, Sample], float]]] = {
    "rate": lambda own, base: own.rate / base.rate,
    "cpu share": lambda own, base: base.cpu_us / own.cpu_us,
    "cpu": lambda own, base: own.cpu_us / base.cpu_us,
    "p50": lambda own, base: own.p50 / base.p50,
    "p95": lambda own, base: own.p95 / base.p95,
    "p99": lambda own, base: own.p99 / base.p99,
    "memory": lambda own, base: own.memory / base.memory,
}


def ratios(comparison: str, own: Sequence[Sample], base: Sequence[Sample]) -> list[float]:
    """Return the ratio within each round."""
    return [COMPARISONS[comparison](one, other) for one, other in zip(own, base, strict=True)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, and the quartiles around it."""
    return statistics.median(values), percentile(values, 25), percentile(values, 75)


def in_turn(subjects: Sequence[Subject], number: int) -> list[Subject]:
    """Return the order of a round: every second one is reversed, so that no subject always follows the same one."""
    return list(subjects) if number % 2 == 0 else list(reversed(subjects))
