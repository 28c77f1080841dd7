"""One launcher per DATA_DIR, and the end of what a killed one left there."""

import asyncio
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from local_platform.errors import DataDirectoryInUse
from local_platform.layout import Layout
from local_platform.supervision.process import POLL_SECONDS, group_members

# A server that learnt of its launcher's death stops in order within this time; a busy one is killed after it.
LEAVE_SECONDS = 10.0


class DataLock:
    """Held while a launcher uses the directory; the kernel frees it with the process, however that ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def announce(self, gateway: str) -> None:
        """Write who holds the lock, for the message that a second launcher shows."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps({"pid": os.getpid(), "gateway": gateway}).encode(), 0)


@contextmanager
def data_lock(layout: Layout) -> Iterator[DataLock]:
    """Hold DATA_DIR for this launcher; raise DataDirectoryInUse when another one runs there."""
    path = layout.root / "launcher.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirectoryInUse(_in_use(layout.root, path)) from error
        os.ftruncate(descriptor, 0)
        yield DataLock(descriptor)
    finally:
        os.close(descriptor)


def _in_use(root: Path, lock: Path) -> str:
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        who = f"a running instance (pid {holder['pid']}, gateway {holder['gateway']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "an instance that is just starting"
    return f"DATA_DIR {root} is in use by {who}; stop it, or choose another directory with DATA_DIR=…"


async def stop_orphans(layout: Layout) -> list[str]:
    """End what a killed launcher left running here and forget its run file; return the names of what was left.

    Only processes in a group that the run file lists and that work below DATA_DIR are touched: numbers of processes
    are used again, and the run file may be old. Call it with the lock held.
    """
    left = {name: pids for name, group in _listed(layout.run_file) if (pids := _members_below(group, layout.root))}
    for name, pids in left.items():
        # PostgreSQL's own "stop now, in order"; TERM would wait for its clients.
        _signal(pids, signal.SIGINT if name == "postgres" else signal.SIGTERM)
    end = asyncio.get_running_loop().time() + LEAVE_SECONDS
    while living := [pid for pids in left.values() for pid in pids if _lives(pid)]:
        if asyncio.get_running_loop().time() > end:
            _signal(living, signal.SIGKILL)
        await asyncio.sleep(POLL_SECONDS)
    layout.run_file.unlink(missing_ok=True)
    return list(left)


def _listed(run_file: Path) -> Iterator[tuple[str, int]]:
    """Yield name and process group of each child in a run file; a damaged file lists nothing."""
    try:
        processes = json.loads(run_file.read_text(encoding="utf-8"))["processes"]
        yield from [(str(process["name"]), int(process["pid"])) for process in processes]
    except (OSError, ValueError, KeyError, TypeError):
        return


def _members_below(group: int, root: Path) -> list[int]:
    return [pid for pid in group_members(group) if _works_below(pid, root)]


def _works_below(pid: int, root: Path) -> bool:
    try:
        return Path(psutil.Process(pid).cwd()).is_relative_to(root.resolve())
    except psutil.Error:
        return False


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
