"""One operating-system process: it leads a group of its own, and dies with the launcher."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import psutil

from local_platform.environment import known_variables
from local_platform.errors import ServerMissing
from local_platform.secret_files import OTHERS
from opskit.rotated_file import rotate

GROUP_END_SECONDS = 5.0
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and how. When the launcher dies, the kernel sends `death_signal` to the process."""

    argv: Sequence[str]
    directory: Path
    log: Path
    # The whole environment; None takes over what counts of the launcher's.
    environment: Mapping[str, str] | None = None
    death_signal: signal.Signals = signal.SIGTERM
    # A command that executes the rest of its line: as another user, in another user namespace.
    wrapper: Sequence[str] = ()
    # Whether `argv`, which is `python -m MODULE …` then, runs in a fork of the fork server.
    forked: bool = False


class RunningProcess(Protocol):
    """What the supervision needs of a process."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """Return the exit status when the process has ended, or the negative number of the signal that killed it."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal. May raise ProcessLookupError after the end."""


# The launcher may have died before `setpriv` ran; then no signal comes, so the process checks its parent itself.
_UNLESS_ORPHANED = 'test "$PPID" = "$0" && exec "$@"'


def with_death_signal(
    argv: Sequence[str], death_signal: signal.Signals = signal.SIGTERM, wrapper: Sequence[str] = ()
) -> list[str]:
    """Return the argv that makes the kernel send `death_signal` when the launcher dies (prctl PR_SET_PDEATHSIG).

    `setpriv` makes the call after the fork, because Python code between fork and exec is unsafe beside threads. It
    stands after the wrapper, because a change of user clears the setting. Where `setpriv` is missing, the next start
    stops the orphans.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return [*wrapper, *argv]
    guard = [setpriv, "--pdeathsig", death_signal.name.removeprefix("SIG"), "--"]
    return [*wrapper, *guard, "/bin/sh", "-c", _UNLESS_ORPHANED, str(os.getpid()), *argv]


async def spawn(command: Command) -> asyncio.subprocess.Process:
    """Start a process as the leader of a new group; append its output to its log."""
    rotate(command.log)
    with open_log(command.log) as log:
        try:
            return await asyncio.create_subprocess_exec(
                *with_death_signal(command.argv, command.death_signal, command.wrapper),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=command.directory,
                env=known_variables() if command.environment is None else command.environment,
                # What the process writes, such as uploads and logs, is nobody else's.
                umask=OTHERS,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise ServerMissing(f"{error.filename} does not exist") from error


def open_log(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


def signal_process(process: RunningProcess, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


async def kill_group(group: int) -> None:
    """Kill all that remains of a group and wait until it is gone, so that its ports and locks are free again."""
    signal_group(group, signal.SIGKILL)
    end = asyncio.get_running_loop().time() + GROUP_END_SECONDS
    while asyncio.get_running_loop().time() < end:
        if not group_members(group):
            return
        await asyncio.sleep(POLL_SECONDS)


def group_members(group: int) -> list[int]:
    """Return the living processes of a group; a zombie holds nothing and does not count."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, 0)
        return [pid for pid in psutil.pids() if _belongs(pid, group)]
    return []


def _belongs(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False
