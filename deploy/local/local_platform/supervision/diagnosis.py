"""Turns the log of a failing server into a message that says what to do."""

import errno
import re
from pathlib import Path

from local_platform.errors import DataDirectoryUnusable, DiskFull, LaunchError, LibraryMissing, PortTaken

READ_BYTES = 64 * 1024
SHOWN_LINES = 12

_LIBRARY = re.compile(r"error while loading shared libraries: (\S+?):")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|ENOSPC", re.IGNORECASE)
_PORT = re.compile(r"Address (?:already )?in use|EADDRINUSE", re.IGNORECASE)
# Debian's names; those of other distributions are similar.
_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libcrypto.so.3": "libssl3",
    "libssl.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
    "libresolv.so.2": "libc6",
    "libgcc_s.so.1": "libgcc-s1",
    "libstdc++.so.6": "libstdc++6",
}


def read_from(log: Path, offset: int) -> str:
    """Return what was appended to a log after `offset`, at most the last READ_BYTES."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            # A log that was rotated meanwhile is read from its beginning.
            file.seek(max(offset if offset <= size else 0, size - READ_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def last_lines(log: Path, offset: int = 0) -> str:
    return "\n".join(f"  | {line[:300]}" for line in read_from(log, offset).splitlines()[-SHOWN_LINES:])


def explain(name: str, log: Path, offset: int = 0) -> LaunchError | None:
    """Return the error for a known cause that a restart cannot cure, else None."""
    return explain_text(name, read_from(log, offset), log)


def explain_os_error(error: OSError, root: Path) -> LaunchError:
    """Return the error to show when a file below DATA_DIR cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(root)
    return DataDirectoryUnusable(f"{error.strerror}: {error.filename or root}")


def disk_full(root: Path) -> DiskFull:
    return DiskFull(f"no room is left on the disk of {root}; free some space, or choose another disk with DATA_DIR=…")


def explain_text(name: str, text: str, where: Path) -> LaunchError | None:
    library = _LIBRARY.search(text)
    if library is not None:
        missing = Path(library[1]).name
        package = _PACKAGES.get(missing)
        remedy = (
            f"install the package {package} (apt install {package})" if package else "install the package that holds it"
        )
        return LibraryMissing(f"{name} needs the shared library {missing}, which is not installed; {remedy}")
    if _NO_SPACE.search(text):
        return disk_full(where.parent.parent)
    if _PORT.search(text):
        return PortTaken(f"the port of {name} is taken by another program; stop that program or choose another port")
    return None
