"""Runs commands, and passes the operator's interruption on to them."""

import os
import shutil
import signal
import subprocess  # nosec B404
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, TypedDict, Unpack

from release_tool.errors import CommandFailed, Interrupted, Refused

LAST_LINES = 30
MEANWHILE_SECONDS = 1.0


class Options(TypedDict, total=False):
    """How to run a command. All are off unless they are given.

    shown        the operator sees it live, and nothing is returned
    merged       what it writes to standard error is returned, too
    environment  variables on top of ours
    meanwhile    called every second while it runs
    """

    shown: bool
    merged: bool
    environment: Mapping[str, str]
    meanwhile: Callable[[], None]


class Runner(Protocol):
    """Runs `docker …`; the fake of the tests has the same method."""

    def docker(self, *words: str, **options: Unpack[Options]) -> str:
        """Return what the command printed. Raises `CommandFailed` when it fails."""
        ...


class DockerRunner:
    """Runs the docker client in the repository's root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._docker = shutil.which("docker")

    def docker(self, *words: str, **options: Unpack[Options]) -> str:
        if self._docker is None:
            raise Refused("docker is not installed, or not on PATH: https://docs.docker.com/engine/install/")
        shown = options.get("shown", False)
        with subprocess.Popen(
            [self._docker, *words],
            cwd=self._root,
            env={**os.environ, **options.get("environment", {})},
            stdin=subprocess.DEVNULL,
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.STDOUT if options.get("merged") else subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C reaches a whole terminal group; the command is to hear of it once, and from us.
            start_new_session=True,
            # The descriptor of our lock is the only one that is inherited.
            close_fds=False,
        ) as process:
            try:
                output, errors = _communicate(process, options.get("meanwhile"))
            except Interrupted:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
        if process.returncode:
            raise CommandFailed(_failure(words, process.returncode, f"{output or ''}{errors or ''}"))
        return output or ""


def _communicate(process: subprocess.Popen[str], meanwhile: Callable[[], None] | None) -> tuple[str, str]:
    while True:
        try:
            return process.communicate(timeout=MEANWHILE_SECONDS if meanwhile else None)
        except subprocess.TimeoutExpired:
            if meanwhile:
                meanwhile()


def _failure(words: Sequence[str], code: int, output: str) -> str:
    command = " ".join(["docker", *words])
    end = "\n".join(f"  {line}" for line in output.strip().splitlines()[-LAST_LINES:])
    return f"`{command}` failed with exit status {code}" + (f":\n{end}" if end else "")


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`; what nohup ignores stays ignored."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # A second request must not interrupt the first one's orderly end.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)
