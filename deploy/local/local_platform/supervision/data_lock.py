"""One launcher per DATA_DIR, and an end to the orphans that a killed launcher left there."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from local_platform.errors import DataDirectoryInUse
from local_platform.layout import GATEWAY, Layout
from local_platform.supervision.process import POLL_SECONDS, group_members
from opskit.file_lock import AlreadyLockedError, file_lock

# A server that lost its launcher stops in order within this time; a busy one is killed after it.
ORPHAN_STOP_SECONDS = 10.0


class DataLock:
    """The lock of a DATA_DIR, held while a launcher uses it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def announce(self, gateway: str) -> None:
        """Write who holds the lock, for the message that a second launcher shows."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps({"pid": os.getpid(), "gateway": gateway}).encode(), 0)


@contextmanager
def data_lock(layout: Layout) -> Iterator[DataLock]:
    """Lock DATA_DIR for this launcher; raise DataDirectoryInUse when another one runs there."""
    try:
        with file_lock(layout.lock_file, wait=False) as descriptor:
            os.ftruncate(descriptor, 0)
            yield DataLock(descriptor)
    except AlreadyLockedError as error:
        raise DataDirectoryInUse(_in_use(layout)) from error


def _in_use(layout: Layout) -> str:
    try:
        holder = json.loads(layout.lock_file.read_text(encoding="utf-8"))
        who = f"a running instance (pid {holder['pid']}, gateway {holder['gateway']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "an instance that is just starting"
    return f"DATA_DIR {layout.root} is in use by {who}; stop it, or choose another directory with DATA_DIR=…"


async def stop_orphans(layout: Layout) -> list[str]:
    """Stop what a killed launcher left running and remove its run file; return the names of these processes.

    Process ids are reused and the run file may be old. So only processes that work below DATA_DIR, in a group that
    the run file lists, are touched. If the run file is damaged, they are found by their folders. The caller holds the
    lock.
    """
    listed = _listed(layout.run_file)
    groups = _found(layout) if listed is None else listed
    orphans = {name: pids for name, group in groups if (pids := _members_below(group, layout.root))}
    for name, pids in orphans.items():
        # PostgreSQL stops at once, and in order, on INT; on TERM it would wait for its clients.
        _signal(pids, signal.SIGINT if name == "postgres" else signal.SIGTERM)
    end = asyncio.get_running_loop().time() + ORPHAN_STOP_SECONDS
    while living := [pid for pids in orphans.values() for pid in pids if _is_alive(pid)]:
        if asyncio.get_running_loop().time() > end:
            _signal(living, signal.SIGKILL)
        await asyncio.sleep(POLL_SECONDS)
    layout.run_file.unlink(missing_ok=True)
    return list(orphans)


def _listed(run_file: Path) -> list[tuple[str, int]] | None:
    """Return name and process group of each process in a run file, or None if the file is damaged."""
    try:
        processes = json.loads(run_file.read_text(encoding="utf-8"))["processes"]
        return [(str(process["name"]), int(process["pid"])) for process in processes]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _found(layout: Layout) -> list[tuple[str, int]]:
    """Return name and process group of all that leads a group of its own in a folder where only the launcher works.

    A user's shell may stand in such a folder, but has a terminal.
    """
    folders = {path: path.name for path in (layout.root / "work").glob("*")} | {layout.gateway: GATEWAY}
    folders |= {path / "data": path.name for path in layout.store("postgres").parent.glob("postgres")}
    names = {path.resolve(): name for path, name in folders.items()}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            name = names.get(Path(process.cwd()))
            if name is not None and process.terminal() is None and os.getsid(process.pid) == process.pid:
                found.append((name, process.pid))
    return found


def _members_below(group: int, root: Path) -> list[int]:
    return [pid for pid in group_members(group) if _works_below(pid, root)]


def _works_below(pid: int, root: Path) -> bool:
    try:
        return Path(psutil.Process(pid).cwd()).is_relative_to(root.resolve())
    except psutil.Error:
        return False


def _is_alive(pid: int) -> bool:
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
