"""The secrets of a deployment: random ones, made once, and files derived from them.

Only its owner may enter the directories. The files have mode 0444, because each container runs as a user of its own and
has its files mounted one by one; docs/security.md says why not less.
"""

import base64
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from opskit.atomic_file import write_atomically
from opskit.catalog import ServiceEntry
from opskit.file_lock import file_lock
from opskit.valkey_acl import acl

Environment = Literal["production", "development", "cluster"]

ACL_FILE = "valkey/users.acl"
FILE_MODE = 0o444
# A certificate and its key in this directory switch TLS on.
TLS_DIRECTORY = "tls"

# By volume: the secret that opens its data, because the server took it as its password when it created them.
OPENED_BY = {"postgres": "postgres/superuser_password", "mongo-1": "mongo/root_password"}

_MONGO_NODES = {
    "production": ("mongo-1", "mongo-2", "mongo-3"),
    "development": ("mongo-1",),
    "cluster": ("mongo-0.mongo", "mongo-1.mongo", "mongo-2.mongo"),
}
# This makes 1008 characters; MongoDB accepts a key file of at most 1024
# (https://www.mongodb.com/docs/manual/core/security-internal-authentication/).
_KEYFILE_BYTES = 756


@dataclass(frozen=True, slots=True)
class Written:
    """The names of the files that were made, and of those whose derived content changed."""

    made: tuple[str, ...]
    changed: tuple[str, ...]


def write_secrets(directory: Path, environment: Environment, catalog: Mapping[str, ServiceEntry]) -> Written:
    """Make what is missing in a directory; an existing secret stays. Several processes may do this at once."""
    _ensure_directory(directory, 0o700)
    with file_lock(directory / ".lock"):
        return _Writer(directory).write(environment, catalog)


def write_service_secrets(directory: Path, catalog: Mapping[str, ServiceEntry]) -> Written:
    """Make the missing secrets of services alone, where the stores and their passwords are somebody else's."""
    _ensure_directory(directory, 0o700)
    with file_lock(directory / ".lock"):
        return _Writer(directory).write_services(catalog)


class _Writer:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: list[str] = []
        self._changed: list[str] = []

    def write(self, environment: Environment, catalog: Mapping[str, ServiceEntry]) -> Written:
        _ensure_directory(self._directory / TLS_DIRECTORY, 0o755)
        self._random("postgres/superuser_password")
        self._random("mongo/root_password")
        self._random("mongo/keyfile", lambda: base64.b64encode(os.urandom(_KEYFILE_BYTES)).decode())
        administrator = self._random("valkey/administrator_password")
        self.write_services(catalog)
        for entry in catalog.values():
            self._write_addresses(entry, environment)
        passwords = {name: self._valkey_password(name) for name in catalog}
        issuers = frozenset(entry.name for entry in catalog.values() if entry.issues_tokens)
        self._derived(ACL_FILE, acl(administrator, passwords, issuers))
        self._tighten()
        return Written(tuple(self._made), tuple(self._changed))

    def write_services(self, catalog: Mapping[str, ServiceEntry]) -> Written:
        for entry in catalog.values():
            for secret in _random_secrets(entry):
                self._random(f"{entry.name}/{secret}")
        return Written(tuple(self._made), tuple(self._changed))

    def _write_addresses(self, entry: ServiceEntry, environment: Environment) -> None:
        name = entry.name
        if "SMTP_URL" in entry.settings and environment == "production":
            # The operator writes the mail server's URL into it. Compose needs the file.
            self._random(f"{name}/smtp_url", str)
        if entry.store is None:
            return
        password = self._random(f"{entry.store}/{name}_password")
        if entry.store == "postgres":
            self._derived(
                f"{name}/database_url", f"postgresql+asyncpg://{name}:{_quoted(password)}@postgres:5432/{name}"
            )
        else:
            nodes = ",".join(f"{node}:27017" for node in _MONGO_NODES[environment])
            url = f"mongodb://{name}:{_quoted(password)}@{nodes}/{name}?authSource={name}&replicaSet=rs0"
            self._derived(f"{name}/mongo_url", url)

    def _valkey_password(self, name: str) -> str:
        """Return the password in a service's URL. It is in no other file: the server has its hash."""
        url = self._random(f"{name}/valkey_url", lambda: f"redis://{name}:{secrets.token_hex(32)}@valkey:6379/0")
        return unquote(urlsplit(url).password or "")

    def _random(self, name: str, make: Callable[[], str] = lambda: secrets.token_hex(32)) -> str:
        """Return a secret, made when it is missing; by default 256 bits in hexadecimal, which is safe in a URL."""
        if (known := self._read(name)) is not None:
            return known
        text = make()
        self._store(name, text)
        self._made.append(name)
        return text

    def _derived(self, name: str, text: str) -> None:
        known = self._read(name)
        if known == text.strip():
            return
        self._store(name, text)
        (self._made if known is None else self._changed).append(name)

    def _read(self, name: str) -> str | None:
        try:
            return (self._directory / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def _store(self, name: str, text: str) -> None:
        path = self._directory / name
        _ensure_directory(path.parent, 0o700)
        write_atomically(path, text, mode=FILE_MODE)

    def _tighten(self) -> None:
        """Give existing files and directories the modes of new ones; what belongs to another user stays as it is."""
        for path in self._directory.rglob("*"):
            hidden, in_tls = path.name.startswith("."), path.relative_to(self._directory).parts[0] == TLS_DIRECTORY
            if not (hidden or in_tls or path.is_symlink()) and path.stat().st_uid == os.geteuid():
                path.chmod(0o700 if path.is_dir() else FILE_MODE)


def _random_secrets(entry: ServiceEntry) -> Iterator[str]:
    yield "fingerprint_secret"
    if entry.keeps_files:
        # It signs links to files.
        yield "link_secret"


def _quoted(password: str) -> str:
    """Return a password quoted for a URL; one that the operator chose may hold any character."""
    return quote(password, safe="")


def _ensure_directory(path: Path, mode: int) -> None:
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    # The umask restricts the mode that is given to `mkdir`.
    path.chmod(mode)
