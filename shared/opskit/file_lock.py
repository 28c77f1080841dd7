"""Locks between processes. The kernel frees a lock when the process that holds it ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyLockedError(Exception):
    """Another process holds the lock."""


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[int]:
    """Hold the lock of a file, which is created when it is missing, and yield the file's descriptor.

    Wait while another process holds it, or raise `AlreadyLockedError` at once with `wait=False`. The holder may write
    into the file who it is. A child process that inherits the descriptor holds the lock too.
    """
    with _locked(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), path, wait) as descriptor:
        yield descriptor


@contextmanager
def directory_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of an existing directory, as `file_lock` does, without leaving a file in it."""
    with _locked(os.open(path, os.O_RDONLY | os.O_DIRECTORY), path, wait):
        yield


@contextmanager
def _locked(descriptor: int, path: Path, wait: bool) -> Iterator[int]:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyLockedError(f"{path} is locked by another process") from None
        yield descriptor
    finally:
        os.close(descriptor)
