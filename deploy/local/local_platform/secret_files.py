"""Secrets in private files below DATA_DIR."""

import re
import secrets
from pathlib import Path

from local_platform.errors import DataDirectoryUnusable
from opskit.atomic_file import write_atomically

SECRET_BYTES = 32
# The rights of all but the owner.
OTHERS = 0o077
_WHOLE = re.compile(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}\s*")


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner can open, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def withdraw_rights(path: Path) -> None:
    """Leave a file, or a directory with all its content, to its owner alone. The directory comes last.

    So a directory that is closed already has no open content, unless this was interrupted, and is done quickly.
    """
    if path.is_symlink() or not path.exists():
        return
    if path.is_dir() and path.stat().st_mode & OTHERS:
        for child in path.iterdir():
            withdraw_rights(child)
    path.chmod(path.stat().st_mode & ~OTHERS)


class SecretFiles:
    """Random secrets in files of mode 0600, each made when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = private_directory(directory)

    def value(self, name: str) -> str:
        """Return the secret of this name: 256 random bits in hexadecimal, so safe in a URL.

        Raises DataDirectoryUnusable for a file that holds something else.
        """
        path = self.path(name)
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return self.store(name, secrets.token_hex(SECRET_BYTES)).read_text(encoding="utf-8")
        if not _WHOLE.fullmatch(text):
            raise DataDirectoryUnusable(
                f"{path} is empty or damaged; restore it from a copy. A new secret is made if the file is missing, but "
                "a store that has data knows the old one"
            )
        return text

    def store(self, name: str, text: str) -> Path:
        """Write a text that holds secrets, such as a URL with a password, and return its path."""
        path = self.path(name)
        private_directory(path.parent)
        write_atomically(path, text)
        return path

    def path(self, name: str) -> Path:
        return self.directory / name
