"""Files that are replaced whole: a reader sees the old content or the new one, also after a power failure."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_atomically(
    path: Path, content: str | bytes, *, mode: int = 0o600, keep_owner: bool = False, durable: bool = True
) -> None:
    """Replace a file in one step; when this returns, the new content is on the disk.

    Text is written as UTF-8. `mode` is set whatever the umask. `keep_owner` is for root, who may replace a file that
    another user has to read: the new file belongs to the same user and group. Without `durable` this does not wait for
    the disk, for files that are made again after a power failure.
    """
    data = content.encode() if isinstance(content, str) else content
    # The leading dot and the suffix keep a reader of the directory from taking it for one of its files.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if keep_owner:
                _copy_owner(path, descriptor)
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_directory(path.parent)


def _copy_owner(path: Path, descriptor: int) -> None:
    with suppress(FileNotFoundError):
        status = path.stat()
        if os.geteuid() == 0 and status.st_uid != 0:
            os.fchown(descriptor, status.st_uid, status.st_gid)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
