"""The process of `clients.former`, in an environment that is made once, with uv."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchlib import Sample, Subject
from peers.obtaining import python_environment

HERE = Path(__file__).parent
LONGEST_LINE = 64 * 1024 * 1024


class Former:
    """The process, and the one command at a time that it gets."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, action: str, call: str, **options: Any) -> Any:
        """Have something done and return its result."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the process has no pipes")
        stdin.write(json.dumps({"do": action, "call": call, **options}).encode() + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        if not line:
            raise RuntimeError("the process of the former packages ended")
        return json.loads(line)

    def subject(self, name: str, call: str, in_flight: int) -> Subject:
        """Return the subject that repeats one of its calls."""

        async def run(seconds: float) -> Sample:
            return sample(await self.do("slice", call, seconds=seconds, in_flight=in_flight))

        return Subject(name, run)


def sample(measured: dict[str, Any]) -> Sample:
    times = measured["times"]
    return Sample.of(times, requests=len(times), seconds=measured["seconds"], cpu=measured["cpu"])


@asynccontextmanager
async def former_packages(**options: Any) -> AsyncIterator[Former]:
    """Run the process while the context is open. Raises CannotObtain where the packages cannot be installed."""
    interpreter = await asyncio.to_thread(python_environment, "clients", HERE / "requirements.txt")
    process = await asyncio.create_subprocess_exec(
        *(str(interpreter), "-m", "clients.former", json.dumps(options)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(HERE.parent)},
    )
    try:
        yield Former(process)
    finally:
        process.kill()
        await process.wait()
