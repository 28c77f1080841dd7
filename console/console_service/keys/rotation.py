"""The rotation of the keys between services, by the command that the launcher gave."""

import asyncio
import os
import shlex
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from loguru import logger

from servicekit.core.errors import Conflict, NotFound
from servicekit.core.tasks import cancel

State = Literal["idle", "running", "done", "failed"]

MAX_LINES: Final = 200
LINE_CHARACTERS: Final = 500
# The console's own environment has secrets, which are none of the command's business.
PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "DATA_DIR")


class RotationRunning(Conflict):
    """A rotation of keys is under way. Another one begins after it."""

    type = "urn:baseplate:problem:rotation-running"
    detail = "The keys are being rotated already."


class KeyRotation:
    """Runs the command, one at a time, and keeps what it says."""

    def __init__(self, command: str) -> None:
        self._argv = shlex.split(command)
        self._task: asyncio.Task[None] | None = None
        self.state: State = "idle"
        self.lines: deque[str] = deque(maxlen=MAX_LINES)

    @property
    def possible(self) -> bool:
        return bool(self._argv)

    def view(self) -> dict[str, Any]:
        """Return how far the rotation is."""
        return {"state": self.state, "lines": list(self.lines)}

    def reserve(self) -> None:
        """Be the one that runs. Raises `RotationRunning`, and `NotFound` without a command."""
        if not self.possible:
            raise NotFound("The console has no command for this.")
        if self.state == "running":
            raise RotationRunning
        self.state = "running"
        self.lines.clear()

    def release(self) -> None:
        """Give the reservation back: nothing was begun."""
        self.state = "idle"

    def start(self, finish: Callable[[bool], Awaitable[None]]) -> None:
        """Run the command, and then call `finish` with whether it succeeded."""
        self._task = asyncio.create_task(self._run(finish))

    @asynccontextmanager
    async def stopping(self) -> AsyncIterator[None]:
        """Stop a rotation at the end of the context. The next one goes on where it stopped."""
        yield
        if self._task is not None:
            await cancel(self._task)

    async def _run(self, finish: Callable[[bool], Awaitable[None]]) -> None:
        succeeded = False
        try:
            succeeded = await self._execute()
        except OSError as error:
            self.lines.append(f"the command cannot be started: {error.strerror}")
        finally:
            self.state = "done" if succeeded else "failed"
            logger.info("rotation of keys: {}", self.state)
            await finish(succeeded)

    async def _execute(self) -> bool:
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        )
        try:
            if process.stdout is not None:
                async for line in _lines(process.stdout):
                    self.lines.append(line)
            return await process.wait() == 0
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield lines, the long ones in parts."""
    rest = b""
    while part := await stream.read(4_096):
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")[:LINE_CHARACTERS]
        if len(rest) > LINE_CHARACTERS:
            yield rest.decode(errors="replace")[:LINE_CHARACTERS]
            rest = b""
    if rest:
        yield rest.decode(errors="replace")[:LINE_CHARACTERS]
