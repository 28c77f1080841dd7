"""Small files that are never seen half-written, and a lock that lives no longer than those who hold it."""

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from release_tool.errors import Refused

POLL_SECONDS = 0.2


def write_atomically(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step; a reader sees the old content or the new one. `mode` is set whatever the umask."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever has it; the kernel frees it with the process, however that ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def sole_operator(path: Path, what: str, patience: float, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock that no second tool gets; the docker commands that we start hold it with us.

    Raises `Refused` while another tool runs. When a tool was killed, its last docker command may still be at work; that
    is waited for, at most `patience` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, path, patience, say)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {what}".encode(), 0)
        # A command outlives a killed tool. Through the inherited lock the next tool notices.
        os.set_inheritable(descriptor, True)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, patience: float, say: Callable[[str], None]) -> None:
    end = time.monotonic() + patience
    told = False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, what = path.read_text(encoding="utf-8").partition(" ")
            if not pid or _lives(int(pid)):
                raise Refused(
                    f"another command is at work ({what or 'just starting'}, pid {pid or '?'}); wait"
                ) from None
            if time.monotonic() > end:
                raise Refused(f"a docker command that pid {pid} ({what}) started does not end; stop it first") from None
        if not told:
            say(f"waiting for the last docker command of an interrupted run ({what}) to end")
            told = True
        time.sleep(POLL_SECONDS)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _waits_to_be_reaped(pid)


def _waits_to_be_reaped(pid: int) -> bool:
    """Whether a process has ended and only its parent has not asked yet; false where there is no /proc."""
    try:
        # The second field, the name in brackets, may hold spaces and brackets itself.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
