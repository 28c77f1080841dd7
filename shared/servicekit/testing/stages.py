"""Programs that tests run in a process of their own, and kill at a stage of their work.

    async with program(CODE, "stored", environment=deployment.environment()) as process:
        await process.until(STAGE_REACHED)
    # It was killed there.

where CODE calls `stop_after(*STAGES[sys.argv[1]])` before it begins.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

STAGE_REACHED = "stage reached"
PATIENCE_SECONDS = 120.0


def stop_after(owner: type, name: str, *, when: Callable[[], bool] = lambda: True) -> None:
    """Let an asynchronous method of a class do its work, write STAGE_REACHED, and never return.

    Calls for which `when` is false return as usual.
    """
    method = getattr(owner, name)

    async def stopping(*arguments: Any, **keywords: Any) -> Any:
        result = await method(*arguments, **keywords)
        if when():
            await stop_here()
        return result

    setattr(owner, name, stopping)


async def stop_here() -> None:
    """Write STAGE_REACHED and never return."""
    sys.stdout.write(f"{STAGE_REACHED}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


class Program:
    """A Python program in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, line: str) -> None:
        """Wait until the program writes this line; its log goes to the same place. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.read_line() != line:
                pass

    async def read_line(self) -> str:
        """Return the next line that the program writes. Raises TimeoutError."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = await self._process.stdout.readline()
        assert line, "the program ended before it wrote what the test waits for"
        return line.decode().removesuffix("\n")


@asynccontextmanager
async def program(code: str, *arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Program]:
    """Run a program's code, and kill it at the end of the context."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *arguments),
        env={**os.environ, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        await process.wait()
