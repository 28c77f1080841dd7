"""Run k6, Locust and measurements of saturation against the platform: `make load`.

    .venv/bin/python load/run_load.py [scenario …] [--url URL] [--rate 200] [--seconds 30]

Without names, all scenarios run. Without a URL, they start a platform on a free port, with a new data directory, and
without rate limits except for `limits`, which is about them. Results go to `load/reports/`. The exit status is 1 if an
objective is missed, and 3 if nothing ran.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capacity import generators, reports, scaling, timeline
from capacity.generators import K6_SCRIPTS, GeneratorFailed, Pace
from capacity.target import LIMITED, UNLIMITED, Target, started
from local_platform.environment import keep_known_variables
from local_platform.errors import LaunchError

HOW_TO_INSTALL = {
    "k6": "install it by its package, or build it: make load-tools ONLY=k6 (Go 1.25 or newer; some minutes)",
    "locust": "make load-tools ONLY=locust",
}
# Two addresses of this machine: VUs take them in turn.
TWO_ADDRESSES = "--local-ips=127.0.0.2,127.0.0.3"
REPLICAS, ROWS = [1, 2, 4], [1_000, 100_000, 1_000_000]


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    url: str | None
    pace: Pace
    data_dir: Path | None
    replicas: Sequence[int]
    rows: Sequence[int]
    measure_seconds: float


@contextlib.contextmanager
def data_directory(options: Options) -> Iterator[Path]:
    """Yield the data directory that was asked for, or a new one that is removed afterwards."""
    if options.data_dir is not None:
        yield options.data_dir
        return
    with tempfile.TemporaryDirectory(prefix="baseplate-load-") as folder:
        yield Path(folder)


@contextlib.asynccontextmanager
async def target_of(options: Options, limited: bool = False) -> AsyncIterator[Target]:
    """Yield the platform at the URL, or start one."""
    if options.url is not None:
        yield Target(options.url)
        return
    with data_directory(options) as folder:
        async with started(folder, settings=LIMITED if limited else UNLIMITED) as target:
            yield target


async def locust(target: Target, options: Options) -> dict[str, Any]:
    return await generators.run_locust(target, options.pace)


async def limits(options: Options) -> dict[str, Any]:
    async with target_of(options, limited=True) as target:
        return await generators.run_k6("limits", target, options.pace, TWO_ADDRESSES)


async def over_replicas(options: Options) -> dict[str, Any]:
    with data_directory(options) as folder:
        measured = scaling.over_replicas(folder, options.replicas, options.measure_seconds)
        return await keep_points("replicas", measured)


async def over_rows(options: Options) -> dict[str, Any]:
    with data_directory(options) as folder:
        return await keep_points("rows", scaling.over_rows(folder, options.rows, options.measure_seconds))


async def keep_points(key: str, measured: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """Write each point as soon as it is measured, beside those that other runs have left."""
    points = reports.points(key)
    async for point in measured:
        points[point[key]] = point
        result = {"points": [points[size] for size in sorted(points)]}
        reports.write(key, result)
    wrong = sum(sum(one["unexpected"].values()) for point in points.values() for one in point["results"].values())
    return {**result, "objectives": {"every response has the expected status": wrong == 0}}


async def time_line(options: Options) -> dict[str, Any]:
    with data_directory(options) as folder:
        scenes = await timeline.run(folder)
    return {"scenes": scenes, "objectives": {claim: False for scene in scenes for claim in scene["broken"]}}


@dataclass(frozen=True)
class Scenario:
    """How to run it. `on_target` runs on the platform that several scenarios share; `alone` starts its own."""

    on_target: Callable[[Target, Options], Awaitable[dict[str, Any]]] | None = None
    alone: Callable[[Options], Awaitable[dict[str, Any]]] | None = None
    needs: str | None = None


def _script(name: str) -> Callable[[Target, Options], Awaitable[dict[str, Any]]]:
    return lambda target, options: generators.run_k6(name, target, options.pace)


SCENARIOS = {
    **{f"k6-{name}": Scenario(_script(name), needs="k6") for name in K6_SCRIPTS},
    "locust": Scenario(locust, needs="locust"),
    "limits": Scenario(alone=limits, needs="k6"),
    "replicas": Scenario(alone=over_replicas),
    "rows": Scenario(alone=over_rows),
    "timeline": Scenario(alone=time_line),
}
ALSO = {"k6": [name for name in SCENARIOS if name.startswith("k6-")], "scaling": ["replicas", "rows"]}


def chosen(words: Sequence[str]) -> list[str]:
    """Return the scenarios that the words name, separated by commas or spaces. Raises ValueError."""
    names = [name for word in words for name in word.replace(",", " ").split()]
    found = [one for name in names for one in ALSO.get(name, [name])]
    if unknown := sorted(set(found) - set(SCENARIOS)):
        raise ValueError(f"no such scenario: {', '.join(unknown)}; there are {', '.join([*SCENARIOS, *ALSO])}")
    return [name for name in SCENARIOS if name in found] if found else list(SCENARIOS)


def lines(name: str, result: dict[str, Any]) -> list[str]:
    """Return a result as lines of the table."""
    objectives = result.get("objectives", {})
    missed = [text for text, holds in objectives.items() if not holds]
    verdict = "MISSED" if missed else "holds"
    text = f"{name:18}"
    if result.get("requests"):
        read, write, cpu = result["kinds"]["read"], result["kinds"]["write"], result["cpu"]
        share = cpu["generator_seconds"] / (cpu["wall_seconds"] * cpu["cores"])
        busy = cpu["machine_seconds"] / (cpu["wall_seconds"] * cpu["cores"])
        text += (
            f"{result['requests']:>9,}{result['requests'] / result['seconds']:>8.0f}{result['failed']:>7}"
            f"{_quantiles(read)}{_quantiles(write)}{share:>10.0%}{busy:>8.0%}"
        )
    return [f"{text}   {verdict}", *(f"    MISSED: {one}" for one in missed)]


HEADER = (
    f"{'scenario':18}{'requests':>9}{'per s':>8}{'failed':>7}{'read p50/95/99 ms':>22}{'write p50/95/99 ms':>22}"
    f"{'load CPU':>10}{'all CPU':>8}"
)


def _quantiles(values: dict[str, float]) -> str:
    if not values.get("count"):
        return f"{'-':>22}"
    return f"{' / '.join(f'{values[name]:.0f}' for name in ('med', 'p(95)', 'p(99)')):>22}"


async def main(names: Sequence[str], options: Options) -> int:
    """Run the scenarios one after the other; return the exit status."""
    status, ran = 0, 0
    print(HEADER, flush=True)
    async with SharedTarget(options) as shared:
        for name in names:
            scenario = SCENARIOS[name]
            if reason := reason_against(scenario, options):
                print(f"{name:18}  not run: {reason}", flush=True)
                continue
            ran += 1
            try:
                result = await run_scenario(scenario, shared, options)
            except (GeneratorFailed, LaunchError) as error:
                print(f"{name:18}  FAILED: {error}", flush=True)
                status = 1
                continue
            reports.write(name, result)
            print("\n".join(lines(name, result)), flush=True)
            if not all(result.get("objectives", {}).values()):
                status = 1
    return status if ran else 3


def reason_against(scenario: Scenario, options: Options) -> str | None:
    """Return why a scenario cannot run, if so."""
    if scenario.needs is not None and generators.find(scenario.needs) is None:
        return f"{scenario.needs} is not installed; {HOW_TO_INSTALL[scenario.needs]}"
    if options.url is not None and scenario.alone is not None:
        return "it starts platforms of its own; leave out URL"
    return None


async def run_scenario(scenario: Scenario, shared: "SharedTarget", options: Options) -> dict[str, Any]:
    if scenario.on_target is not None:
        return await scenario.on_target(await shared.get(), options)
    assert scenario.alone is not None
    await shared.close()
    return await scenario.alone(options)


class SharedTarget:
    """The platform that the generators share. It starts when it is needed, and ends before another one starts."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stack = contextlib.AsyncExitStack()
        self._target: Target | None = None

    async def __aenter__(self) -> "SharedTarget":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self) -> Target:
        if self._target is None:
            self._target = await self._stack.enter_async_context(target_of(self._options))
        return self._target

    async def close(self) -> None:
        self._target = None
        await self._stack.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"some of {', '.join([*SCENARIOS, *ALSO])}")
    parser.add_argument("--url", help="a running platform; it has to run without rate limits")
    parser.add_argument("--rate", type=int, default=Pace().rate, help="requests per second (200)")
    parser.add_argument("--seconds", type=int, default=Pace().seconds, help="length of the load (30)")
    parser.add_argument("--clients", type=int, default=Pace().clients, help="the most requests at a time (40)")
    parser.add_argument("--data-dir", type=Path, help="keep the data here, so that a second run of `rows` goes on")
    parser.add_argument("--replicas", type=int, nargs="+", default=REPLICAS, help="of each service (1 2 4)")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="notes, events and accounts")
    parser.add_argument("--measure-seconds", type=float, default=4.0, help="per kind of request, in scaling (4)")
    given = parser.parse_args()
    try:
        wanted = chosen(given.scenarios)
    except ValueError as error:
        parser.error(str(error))
    keep_known_variables("LC_")
    settings = Options(
        given.url or None,
        Pace(given.rate, given.seconds, given.clients),
        given.data_dir,
        given.replicas,
        given.rows,
        given.measure_seconds,
    )
    try:
        sys.exit(asyncio.run(main(wanted, settings)))
    except KeyboardInterrupt:
        sys.exit(130)
