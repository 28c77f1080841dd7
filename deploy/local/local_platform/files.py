"""Small files that are private and never seen half-written."""

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step; a reader sees the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner can open, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


class SecretFiles:
    """Random secrets in files of mode 0600, made when they are asked for the first time."""

    def __init__(self, directory: Path) -> None:
        self.directory = private_directory(directory)

    def value(self, name: str) -> str:
        """Return the secret of this name: 256 random bits in hexadecimal, so safe in a URL."""
        path = self.path(name)
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            private_directory(path.parent)
            write_atomically(path, secrets.token_hex(32))
            return path.read_text(encoding="utf-8")

    def store(self, name: str, text: str) -> Path:
        """Write a text that holds secrets, such as a URL with a password, and return its path."""
        path = self.path(name)
        private_directory(path.parent)
        write_atomically(path, text)
        return path

    def path(self, name: str) -> Path:
        return self.directory / name
