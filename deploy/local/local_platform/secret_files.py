"""Secrets in private files below DATA_DIR."""

import secrets
from pathlib import Path

from local_platform.errors import DataDirectoryUnusable
from opskit.atomic_file import write_atomically


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner can open, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


class SecretFiles:
    """Random secrets in files of mode 0600, each made when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = private_directory(directory)

    def value(self, name: str) -> str:
        """Return the secret of this name: 256 random bits in hexadecimal, so safe in a URL.

        Raises DataDirectoryUnusable for an empty file: a new secret would not open what the lost one protects.
        """
        try:
            text = self.path(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            text = self.store(name, secrets.token_hex(32)).read_text(encoding="utf-8")
        if not text.strip():
            raise DataDirectoryUnusable(
                f"{self.path(name)} is empty; put the secret back, or start with another DATA_DIR=…"
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
