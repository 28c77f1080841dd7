"""Run k6, Locust and measurements of saturation against the platform: `make load`.

    .venv/bin/python load/run_load.py [scenario …] [--url URL] [--rate 200] [--seconds 30]

Without names, all scenarios run. Without a URL, each starts a platform of its own on a free port, with a new data
directory, and without rate limits except for `limits`, which is about them. Results go to `load/reports/`. The exit
status is 1 if an objective is missed, and 3 if nothing ran.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
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
async def target_of(options: Options, limited: bool = False) -> Any:
    """Yield the platform at the URL, or start one."""
    if options.url is not None:
        yield Target(options.url)
        return
    with data_directory(options) as folder:
        async with started(folder, settings=LIMITED if limited else UNLIMITED) as target:
            yield target


async def k6(script: str, options: Options) -> dict[str, Any]:
    async with target_of(options) as target:
        return await generators.run_k6(script, target, options.pace)


async def locust(options: Options) -> dict[str, Any]:
    async with target_of(options) as target:
        return await generators.run_locust(target, options.pace)


async def limits(options: Options) -> dict[str, Any]:
    async with target_of(options, limited=True) as target:
        return await generators.run_k6("limits", target, options.pace, TWO_ADDRESSES)


async def over_replicas(options: Options) -> dict[str, Any]:
    with data_directory(options) as folder:
        return {"points": await scaling.over_replicas(folder, options.replicas, options.measure_seconds)}


async def over_rows(options: Options) -> dict[str, Any]:
    with data_directory(options) as folder:
        return {"points": await scaling.over_rows(folder, options.rows, options.measure_seconds)}


async def time_line(options: Options) -> dict[str, Any]:
    with data_directory(options) as folder:
        scenes = await timeline.run(folder)
    return {"scenes": scenes, "objectives": {claim: False for scene in scenes for claim in scene["broken"]}}


@dataclass(frozen=True)
class Scenario:
    """How to run it, the generator that it needs, and whether it can run on a platform at a URL."""

    run: Callable[[Options], Awaitable[dict[str, Any]]]
    needs: str | None = None
    at_url: bool = True


def _script(name: str) -> Callable[[Options], Awaitable[dict[str, Any]]]:
    return lambda options: k6(name, options)


SCENARIOS = {
    **{f"k6-{name}": Scenario(_script(name), "k6") for name in K6_SCRIPTS},
    "locust": Scenario(locust, "locust"),
    "limits": Scenario(limits, "k6", at_url=False),
    "replicas": Scenario(over_replicas, at_url=False),
    "rows": Scenario(over_rows, at_url=False),
    "timeline": Scenario(time_line, at_url=False),
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
    for name in names:
        scenario = SCENARIOS[name]
        if scenario.needs is not None and generators.find(scenario.needs) is None:
            print(
                f"{name:18}  not run: {scenario.needs} is not installed; {HOW_TO_INSTALL[scenario.needs]}", flush=True
            )
            continue
        if options.url is not None and not scenario.at_url:
            print(f"{name:18}  not run: it starts platforms of its own; leave out URL", flush=True)
            continue
        ran += 1
        try:
            result = await scenario.run(options)
        except (GeneratorFailed, LaunchError) as error:
            print(f"{name:18}  FAILED: {error}", flush=True)
            status = 1
            continue
        reports.write(name, result)
        print("\n".join(lines(name, result)), flush=True)
        if not all(result.get("objectives", {}).values()):
            status = 1
    return status if ran else 3


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
