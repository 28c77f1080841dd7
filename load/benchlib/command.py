"""The command line of a bench, and its run: options, subjects, progress, results."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from benchlib import report
from benchlib.client import Client, Load, Outcome
from benchlib.processes import ProcessGroup
from benchlib.report import Aim, Result
from benchlib.samples import Sample, Subject, in_turn, ratios
from opskit.atomic_file import write_atomically

WARM_UP = 0.5


class BenchFailed(Exception):
    """A bench could not measure, for example because requests failed."""


class Run:
    """One run of a bench."""

    def __init__(self, name: str, title: str, options: argparse.Namespace, stack: AsyncExitStack, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.stack = stack
        self._name, self._title = name, title
        self._client: Client | None = None
        self._samples: dict[Subject, list[Sample]] = {}
        self._subjects: list[dict[str, Any]] = []
        self._results: list[Result] = []
        self._started, self._began = report.now(), time.monotonic()

    @property
    def quick(self) -> bool:
        return bool(self.options.quick)

    def progress(self, text: str) -> None:
        """Tell people, but not machines, what goes on."""
        print(f"  {time.monotonic() - self._began:5.1f} s  {text}", file=sys.stderr, flush=True)

    def http(
        self,
        name: str,
        url: str,
        requests: bytes | Sequence[bytes],
        processes: ProcessGroup | None = None,
        *,
        connections: int = 16,
        rate: float = 0.0,
        statuses: Sequence[int] = (200,),
        weight: int = 1,
    ) -> Subject:
        """Return a subject that gets requests from the client's process; the CPU of `processes` counts.

        Any other status than `statuses`, and any lost connection, ends the bench. `weight` is what a request counts
        for, such as the number of events in it.
        """
        load = Load(url, [requests] if isinstance(requests, bytes) else requests, connections, rate)
        if self._client is None:
            self._client = self.stack.enter_context(Client())
        client = self._client

        async def run(seconds: float) -> Sample:
            before = processes.cpu() if processes else 0.0
            outcome = await asyncio.to_thread(client.send, load, seconds)
            used = processes.cpu() - before if processes else 0.0
            _check(name, outcome, statuses)
            return Sample.of(
                outcome.latencies,
                requests=len(outcome.latencies) * weight,
                seconds=outcome.seconds,
                cpu=used,
                memory=processes.memory() if processes else 0.0,
                client=outcome.cpu / outcome.seconds,
            )

        return Subject(name, run)

    async def compare(
        self,
        subjects: Sequence[Subject],
        *,
        group: str = "",
        rounds: int | None = None,
        seconds: float | None = None,
        warm_up: float = WARM_UP,
    ) -> None:
        """Run the subjects in turn, after a slice of each of `warm_up` seconds that does not count; print medians."""
        rounds, seconds = rounds or self.options.rounds, seconds or self.options.seconds
        self.progress(f"{group or self._name}: {len(subjects)} subjects, {rounds} rounds of {seconds:g} s each")
        for subject in subjects if warm_up else ():
            await subject.run(min(seconds, warm_up))
        samples: dict[Subject, list[Sample]] = {subject: [] for subject in subjects}
        for number in range(rounds):
            for subject in in_turn(subjects, number):
                samples[subject].append(await subject.run(seconds))
            self.progress(f"round {number + 1} of {rounds}")
        self._samples |= samples
        rows = [report.subject_document(group, subject.name, samples[subject]) for subject in subjects]
        self._subjects += rows
        print(f"\n{group}\n{report.subject_table(rows)}" if group else f"\n{report.subject_table(rows)}", flush=True)

    def samples(self, subject: Subject) -> list[Sample]:
        """Return the samples of a subject that was compared."""
        return self._samples[subject]

    def ratio(self, name: str, comparison: str, own: Subject, base: Subject, aim: Aim | None = None) -> None:
        """Add the median over the rounds of the ratio of two subjects (benchlib.samples.COMPARISONS)."""
        values = ratios(comparison, self._samples[own], self._samples[base])
        self.result(name, values, f"{comparison}, of {base.name}", aim)

    def result(self, name: str, values: Sequence[float], unit: str, aim: Aim | None = None) -> None:
        """Add a figure: one value for each round."""
        self._results.append(Result(name, values, unit, aim))

    def finish(self) -> dict[str, Any]:
        """Print the results, and return the document for machines."""
        results = [result.document() for result in self._results]
        if results:
            print(f"\n{report.result_table(results)}", flush=True)
        return {
            "bench": self._name,
            "title": self._title,
            "command": report.command_line(),
            "started": self._started,
            "seconds": round(time.monotonic() - self._began, 1),
            "quick": self.quick,
            "commit": report.commit(),
            "machine": report.machine(),
            "versions": report.versions(),
            "subjects": self._subjects,
            "results": results,
        }


def _check(name: str, outcome: Outcome, statuses: Sequence[int]) -> None:
    wrong = {status: count for status, count in outcome.statuses.items() if status not in statuses}
    if wrong or outcome.lost:
        example = outcome.example.decode(errors="replace")
        raise BenchFailed(
            f"{name}: unexpected statuses {wrong}, {outcome.lost} requests lost; one response:\n{example}"
        )


def main(
    measure: Callable[[Run], Awaitable[None]],
    description: str | None,
    *,
    rounds: int = 9,
    seconds: float = 1.0,
    quick: tuple[int, float] = (3, 0.6),
    add_options: Callable[[argparse.ArgumentParser], object] | None = None,
    on_uvloop: bool = False,
) -> None:
    """Run a bench as a command and exit: 0 if it measured, 1 if it could not, 2 if an aim is missed with --strict.

    `quick` is the number of rounds and the length of a slice with --quick. `on_uvloop` is for benches that measure
    coroutines in their own process, as services run on that loop; the launcher does not.
    """
    script = Path(sys.argv[0])
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{quick[0]} rounds of {quick[1]:g} s: a first impression")
    parser.add_argument("--rounds", type=int, help=f"rounds in which every subject gets a slice (default {rounds})")
    parser.add_argument("--seconds", type=float, help=f"length of a slice (default {seconds:g})")
    parser.add_argument("--strict", action="store_true", help="exit with status 2 if an aim is missed")
    parser.add_argument("--reports", type=Path, default=report.REPORTS, help="folder for the JSON (load/reports)")
    if add_options:
        add_options(parser)
    options = parser.parse_args()
    options.rounds = options.rounds or (quick[0] if options.quick else rounds)
    options.seconds = options.seconds or (quick[1] if options.quick else seconds)
    title = (description or "").partition("\n")[0]
    failure = ""
    try:
        document = _measured(measure, script.stem.removeprefix("bench_"), title, options, on_uvloop)
    except* BenchFailed as failures:
        failure = f"{script.name}: {failures.exceptions[0]}"
    if failure:
        sys.exit(failure)
    options.reports.mkdir(parents=True, exist_ok=True)
    write_atomically(options.reports / f"{document['bench']}.json", json.dumps(document, indent=1) + "\n", mode=0o644)
    missed = any(result["reached"] is False for result in document["results"])
    sys.exit(2 if options.strict and missed else 0)


def _measured(
    measure: Callable[[Run], Awaitable[None]], name: str, title: str, options: argparse.Namespace, on_uvloop: bool
) -> dict[str, Any]:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if on_uvloop else None) as runner:
            return runner.run(_run(measure, name, title, options))
    except KeyboardInterrupt:
        sys.exit(130)


async def _run(
    measure: Callable[[Run], Awaitable[None]], name: str, title: str, options: argparse.Namespace
) -> dict[str, Any]:
    print(f"{name}: {title}", flush=True)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        run = Run(name, title, options, stack, folder)
        await measure(run)
        return run.finish()
