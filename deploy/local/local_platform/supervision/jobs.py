"""Jobs that must succeed once before other processes may start: initdb, migrations."""

import asyncio
from collections.abc import Callable

from local_platform.errors import JobFailed
from local_platform.supervision.diagnosis import explain, last_lines
from local_platform.supervision.forked_process import start
from local_platform.supervision.managed_process import pause_before
from local_platform.supervision.process import Command, kill_group

ATTEMPTS = 5


async def run_job(
    name: str, command: Command, *, before: Callable[[], None] = lambda: None, attempts: int = ATTEMPTS
) -> None:
    """Run a job until it succeeds; raise JobFailed when it keeps failing.

    Every job may be repeated: a job that was killed, or whose store restarted meanwhile, gets another try.
    """
    for attempt in range(1, attempts + 1):
        before()
        log_start = command.log.stat().st_size if command.log.exists() else 0
        process = await start(command)
        try:
            code = await process.wait()
        finally:
            await kill_group(process.pid)
        if code == 0:
            return
        known = explain(name, command.log, log_start)
        if known is not None:
            raise known
        if attempt < attempts:
            await asyncio.sleep(pause_before(attempt))
    raise JobFailed(f"{name} failed with status {code}:\n{last_lines(command.log, log_start)}\nIts log: {command.log}")
