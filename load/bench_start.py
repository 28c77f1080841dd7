"""Measure the platform's start, cold and warm, and the memory of everything while it is idle.

    .venv/bin/python load/bench_start.py [--quick]

A start is `make run` without make, until it says that it is ready. A cold one begins with an empty DATA_DIR, which it
fills with databases, keys and secrets; a warm one finds them. Memory is that of all processes a few seconds after a
start: stores, services, gateway and launcher. What processes share counts once. It takes a minute or two.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from benchlib import ProcessGroup, Run, at_most, main
from local_platform.environment import known_variables

IDLE_SECONDS = 5.0


async def start(folder: Path, *, idle: bool) -> tuple[float, float]:
    """Start the platform and stop it; return the seconds of the start, and the idle memory in MiB."""
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
        if idle:
            await asyncio.sleep(IDLE_SECONDS)
        return took, ProcessGroup([process.pid]).memory() if idle else 0.0
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def measure(run: Run) -> None:
    cold, warm, memory = [], [], []
    data = run.folder / "data"
    for number in range(run.options.rounds):
        shutil.rmtree(data, ignore_errors=True)
        # Written pages of the round before would slow this one down.
        os.sync()
        cold.append((await start(data, idle=False))[0])
        took, used = await start(data, idle=True)
        warm.append(took)
        memory.append(used)
        run.progress(f"round {number + 1}: {cold[-1]:.2f} s cold, {took:.2f} s warm, {used:.0f} MiB idle")
    run.result("start, cold", cold, "s", at_most(4))
    run.result("start, warm", warm, "s", at_most(2.5))
    run.result("memory of everything, idle", memory, "MiB", at_most(600))


if __name__ == "__main__":
    main(measure, __doc__, rounds=3, quick=(1, 1.0))
