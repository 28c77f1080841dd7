"""Measure the platform's start, cold and warm, and the memory and CPU of everything while it is idle.

    .venv/bin/python load/bench_start.py [--quick]

A start is `make run` without make, until it says that it is ready. A cold one begins with an empty DATA_DIR, which it
fills with databases, keys and secrets; a warm one finds them. Memory is that of all processes a few seconds after a
start: stores, services, gateway and launcher. What processes share counts once. CPU is theirs in the ten seconds after
that. It takes two minutes.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchlib import ProcessGroup, Run, at_most, main
from local_platform.environment import known_variables

IDLE_SECONDS = 5.0
WATCHED_SECONDS = 10.0


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[float, ProcessGroup]]:
    """Run the platform; yield the seconds of its start, and all its processes."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "local_platform",
            "run",
            "--no-console",
            "--gateway-port",
            "0",
            "--data-dir",
            str(folder),
        ),
        env=known_variables(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        took = time.monotonic() - began
        if not line.startswith(b"ready"):
            raise RuntimeError(f"the platform did not start; the logs are in {folder}/logs")
        yield took, ProcessGroup([process.pid])
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def measure(run: Run) -> None:
    cold, warm, memory, cpu = [], [], [], []
    data = run.folder / "data"
    for number in range(run.options.rounds):
        shutil.rmtree(data, ignore_errors=True)
        # Written pages of the round before would slow this one down.
        os.sync()
        async with started(data) as (took, _):
            cold.append(took)
        async with started(data) as (took, everything):
            warm.append(took)
            await asyncio.sleep(IDLE_SECONDS)
            memory.append(everything.memory())
            before = everything.cpu()
            await asyncio.sleep(WATCHED_SECONDS)
            cpu.append(100 * (everything.cpu() - before) / WATCHED_SECONDS)
        run.progress(
            f"round {number + 1}: {cold[-1]:.2f} s cold, {warm[-1]:.2f} s warm, idle {memory[-1]:.0f} MiB and"
            f" {cpu[-1]:.1f} % of a core"
        )
    run.result("start, cold", cold, "s", at_most(4))
    run.result("start, warm", warm, "s", at_most(2.5))
    run.result("memory of everything, idle", memory, "MiB", at_most(600))
    run.result("CPU of everything, idle", cpu, "% of a core")


if __name__ == "__main__":
    main(measure, __doc__, rounds=3, quick=(1, 1.0))
