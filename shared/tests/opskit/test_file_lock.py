"""A lock is held by one process at a time and ends with the process."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from opskit.file_lock import AlreadyLockedError, directory_lock, file_lock

type_of_lock = pytest.mark.parametrize("lock", [file_lock, directory_lock])
Lock = Callable[..., AbstractContextManager[Any]]

HOLDER = """
import sys
from pathlib import Path
from opskit.file_lock import {lock}
with {lock}(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path, lock: Lock):
    """Hold the lock in another process, which ends when its input does."""
    command = [sys.executable, "-c", HOLDER.format(lock=lock.__name__), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process


def target(tmp_path: Path, lock: Lock) -> Path:
    return tmp_path / "lock" if lock is file_lock else tmp_path


@type_of_lock
def test_a_lock_that_another_process_holds_is_refused_at_once_without_waiting(tmp_path: Path, lock: Lock):
    path = target(tmp_path, lock)
    with held_elsewhere(path, lock), pytest.raises(AlreadyLockedError, match=str(path)), lock(path, wait=False):
        pytest.fail("two processes hold one lock")


@type_of_lock
def test_a_lock_is_free_again_when_its_holder_was_killed(tmp_path: Path, lock: Lock):
    path = target(tmp_path, lock)
    with held_elsewhere(path, lock) as process:
        process.kill()
        process.wait()
        with lock(path, wait=False):
            pass


@type_of_lock
def test_a_lock_is_waited_for_and_taken_over(tmp_path: Path, lock: Lock):
    path = target(tmp_path, lock)
    taken = threading.Event()

    def wait_for_lock() -> None:
        with lock(path):
            taken.set()

    with lock(path):
        waiter = threading.Thread(target=wait_for_lock)
        waiter.start()
        assert not taken.wait(0.1)
    assert taken.wait(60)
    waiter.join()


@type_of_lock
def test_a_failure_inside_frees_the_lock(tmp_path: Path, lock: Lock):
    path = target(tmp_path, lock)
    with pytest.raises(ZeroDivisionError), lock(path):
        _ = 1 / 0
    with lock(path, wait=False):
        pass


def test_the_lock_file_is_private_and_its_holder_can_write_into_it(tmp_path: Path):
    path = tmp_path / "lock"
    with file_lock(path) as descriptor:
        os.pwrite(descriptor, b"who", 0)
    assert path.read_text() == "who"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_child_that_inherits_the_descriptor_holds_the_lock_too(tmp_path: Path):
    path = tmp_path / "lock"
    with file_lock(path) as descriptor:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[descriptor])
    with child, pytest.raises(AlreadyLockedError), file_lock(path, wait=False):
        pytest.fail("the child lost the lock")
    with file_lock(path, wait=False):
        pass


def test_locking_a_directory_leaves_nothing_in_it_and_makes_none(tmp_path: Path):
    with directory_lock(tmp_path):
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError), directory_lock(tmp_path / "missing"):
        pytest.fail("a missing directory was locked")
