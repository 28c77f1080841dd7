"""Compare the platform with its peers on the same work: PocketBase, the textbook stack, and Dapr for service calls.

    .venv/bin/python load/bench_peers.py [--quick] [--work read list] [--without dapr]

All systems run at once and get slices in turn, over 16 connections. The CPU and memory of all processes of a system
count: gateway, services, stores, sidecars. A peer is built or installed once, into `.tools/peers`, and left out with a
word where it cannot be had. `load/peers/README.md` says what each peer is, how it is built, and what was measured.
"""

import argparse
import asyncio
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from pathlib import Path

from benchlib import Aim, Run, Sample, Subject, at_least, main
from local_platform.errors import LaunchError
from peers import dapr, platform, pocketbase, service_calls, textbook_stack
from peers.notes_api import TASKS
from peers.obtaining import CannotObtain
from peers.side import Side

CALL = "call"
WORK = (*TASKS, CALL)
WRITES = ("register", "create")
# What builds or installs each peer, unless that has been done.
PEERS: Mapping[str, Callable[[], object]] = {
    pocketbase.NAME: pocketbase.PROGRAM.obtain,
    textbook_stack.NAME: textbook_stack.interpreter,
    dapr.NAME: dapr.PROGRAM.obtain,
}
# Of PocketBase's rate.
AIMS: Mapping[str, Aim] = {"login": at_least(2), "read": at_least(0.8), "create": at_least(0.5), "list": at_least(0.8)}
# After a write, events are still delivered; their CPU belongs to the slice.
SETTLE_SECONDS = 0.5
# A part of the platform that uses less for a request is not listed.
LEAST_MICROSECONDS = 10

Start = Callable[[Path], AbstractAsyncContextManager[Side]]


async def measure(run: Run) -> None:
    tasks = [task for task in run.options.work if task != CALL]
    calls = CALL in run.options.work
    # First of all: a build takes minutes, and must not take them from what runs already.
    needed = {pocketbase.NAME, textbook_stack.NAME} if tasks else set()
    left_out = obtain(run, needed | ({textbook_stack.NAME, dapr.NAME} if calls else set()))
    if tasks:
        starts = {
            platform.NAME: platform.running,
            pocketbase.NAME: pocketbase.running,
            pocketbase.DURABLE_NAME: pocketbase.running_durable,
            textbook_stack.NAME: textbook_stack.running,
        }
        async with AsyncExitStack() as stack:
            sides = await started(run, stack, starts, left_out)
            for task in tasks:
                await compare(
                    run, [side for side in sides if task in WRITES or side.name != pocketbase.DURABLE_NAME], task
                )
    if calls:
        async with AsyncExitStack() as stack:
            await compare(run, await started(run, stack, service_calls.SIDES, left_out), CALL)


def obtain(run: Run, needed: Iterable[str]) -> set[str]:
    """Build or install these peers where that is due. Return those to leave out; say which cannot be had, and why."""
    left_out = set(run.options.without)
    for name in sorted(set(needed) - left_out):
        try:
            PEERS[name]()
        except CannotObtain as error:
            run.progress(f"{name} is left out: {error}")
            left_out.add(name)
    return left_out


async def started(
    run: Run, stack: AsyncExitStack, starts: Mapping[str, Start], left_out: Collection[str]
) -> list[Side]:
    """Start each system that is not left out. A peer that does not start is left out as well, with a word."""
    sides = []
    for name, start in starts.items():
        peer = name.partition(",")[0]
        if peer in left_out:
            continue
        run.progress(f"starting {name}")
        try:
            sides.append(await stack.enter_async_context(start(run.folder)))
        except LaunchError as error:
            if peer not in PEERS:
                raise
            run.progress(f"{name} is left out: {error}")
    return sides


async def compare(run: Run, sides: Sequence[Side], task: str) -> None:
    """Measure one kind of work on all sides. The first side is compared with each other one."""
    usage: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    subjects = [await subject_of(run, side, task, usage[side.name]) for side in sides]
    await run.compare(subjects, group=task)
    own, *others = subjects
    for other in others:
        aim = AIMS.get(task) if other.name == pocketbase.NAME else None
        run.ratio(f"{task}: {own.name}", "rate", own, other, aim)
        run.ratio(f"{task}: {own.name}, CPU", "cpu", own, other)
    for side in sides:
        for part in side.parts if len(side.parts) > 1 else ():
            # The first slice warms up.
            values = [used[part] for used in usage[side.name][1:]]
            if statistics.median(values) >= LEAST_MICROSECONDS:
                run.result(f"{task}: {side.name}'s {part}", values, "CPU µs per request")


async def subject_of(run: Run, side: Side, task: str, usage: list[dict[str, float]]) -> Subject:
    """Return one side doing one kind of work. `usage` gets the CPU µs per request of each part, slice by slice."""
    work = await side.work(task)
    client = run.http(side.name, work.url, work.requests, statuses=[work.status])

    async def settled(seconds: float) -> Sample:
        before = side.cpu()
        sample = await client.run(seconds)
        await asyncio.sleep(SETTLE_SECONDS)
        used = {part: cpu - before[part] for part, cpu in side.cpu().items()}
        usage.append({part: cpu / sample.requests * 1e6 for part, cpu in used.items()})
        return replace(sample, cpu=sum(used.values()), memory=side.memory())

    return Subject(side.name, settled)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK, help="kinds of work (default: all)")
    parser.add_argument("--without", nargs="+", choices=[*PEERS], default=(), help="peers to leave out")


if __name__ == "__main__":
    main(measure, __doc__, rounds=5, seconds=2, quick=(3, 1.0), add_options=add_options)
