"""The programs that the tool calls, such as docker, and how their failures are told."""

import os
import shutil
import signal
import subprocess  # nosec B404
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

from release_tool.errors import CommandFailed, Interrupted, Refused

# How much of a failed command's output is shown.
LAST_LINES = 30
MEANWHILE_SECONDS = 1.0


class Options(TypedDict, total=False):
    """How to run a command. All are off by default.

    shown        the operator sees the output live, and an empty string is returned
    merged       standard error is returned, too
    environment  variables besides those of this process
    given        what the command reads on its standard input
    meanwhile    called every second while the command runs
    """

    shown: bool
    merged: bool
    environment: Mapping[str, str]
    given: str
    meanwhile: Callable[[], None]


class Client(Protocol):
    """Runs the commands of one program; the tests have fakes."""

    def run(self, *words: str, **options: Unpack[Options]) -> str:
        """Run the program with these words and return its output. Raises `CommandFailed`."""
        ...


class ProgramClient:
    """A program on PATH, run in the repository's root. `site` says how to install it."""

    def __init__(self, name: str, site: str, root: Path) -> None:
        self._name = name
        self._site = site
        self._root = root
        self._path = shutil.which(name)

    def run(self, *words: str, **options: Unpack[Options]) -> str:
        if self._path is None:
            raise Refused(f"{self._name} is not installed, or not on PATH: {self._site}")
        given = options.get("given")
        shown = options.get("shown", False)
        with subprocess.Popen(
            [self._path, *words],
            cwd=self._root,
            env={**os.environ, **options.get("environment", {})},
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.STDOUT if options.get("merged") else subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C reaches a terminal's whole process group; the command must get the signal once, from this process.
            start_new_session=True,
            # The descriptor of the operator's lock is the only inheritable one.
            close_fds=False,
        ) as process:
            try:
                output, errors = _communicate(process, given, options.get("meanwhile"))
            except Interrupted:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
        if process.returncode:
            raise CommandFailed(_failure((self._name, *words), process.returncode, f"{output or ''}{errors or ''}"))
        return output or ""


def docker_client(root: Path) -> ProgramClient:
    """Return the docker client."""
    return ProgramClient("docker", "https://docs.docker.com/engine/install/", root)


def _communicate(
    process: subprocess.Popen[str], given: str | None, meanwhile: Callable[[], None] | None
) -> tuple[str, str]:
    while True:
        try:
            return process.communicate(given, timeout=MEANWHILE_SECONDS if meanwhile else None)
        except subprocess.TimeoutExpired:
            if meanwhile:
                meanwhile()


def _failure(words: Sequence[str], code: int, output: str) -> str:
    end = "\n".join(f"  {line}" for line in output.strip().splitlines()[-LAST_LINES:])
    return f"`{' '.join(words)}` failed with exit status {code}" + (f":\n{end}" if end else "")
