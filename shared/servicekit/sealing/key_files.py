"""The files that hold service keys: their format, and how they are read, written and created.

Each ordered pair of services has one file, `<caller>--<callee>.json`, the same in the directories of both:

    {"caller": "user", "callee": "analytics", "keys": [{"id": "20260101-5f3a9c2e", "secret": "<base64url>"}]}

The first key seals, all of them open.
"""

import base64
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from opskit.atomic_file import write_atomically
from opskit.file_lock import file_lock
from servicekit.sealing.ciphers import SECRET_BYTES, Key

MAX_FILE_BYTES: Final = 64 * 1024
MAX_KEYS: Final = 16

_SERVICE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_URL_SAFE = re.compile(r"[A-Za-z0-9_-]{43}=")
# 32 random bytes practically never have fewer different values; a padded password does.
_LEAST_DISTINCT_BYTES = 16


class KeyFileError(ValueError):
    """A key file cannot be used. The message names the file and what is wrong with it, never a secret."""


class CatalogEntry(Protocol):
    """A service and the services that it calls."""

    @property
    def name(self) -> str: ...

    @property
    def calls(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class PairKeys:
    """The keys of calls from `caller` to `callee`; the first seals, all open."""

    caller: str
    callee: str
    keys: tuple[Key, ...]


def pair_name(caller: str, callee: str) -> str:
    """Return the name of a pair in files, metrics and logs."""
    return f"{caller}--{callee}"


def file_name(caller: str, callee: str) -> str:
    """Return the name of the pair's file."""
    return f"{pair_name(caller, callee)}.json"


def read_key_file(path: Path) -> PairKeys:
    """Return the content of a key file. Raises `KeyFileError` for an unsafe file, OSError for an unreadable one."""
    with path.open("rb") as file:
        text = file.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise KeyFileError(f"{path}: longer than {MAX_FILE_BYTES} bytes")
    try:
        document = orjson.loads(text)
        caller, callee, entries = document["caller"], document["callee"], document["keys"]
        secrets_by_id = [(entry["id"], entry["secret"]) for entry in entries]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise KeyFileError(f"{path}: not a JSON object with caller, callee and keys of id and secret") from None
    if not _is_service(caller) or not _is_service(callee) or path.name != file_name(caller, callee):
        raise KeyFileError(f"{path}: the content does not match the file name <caller>--<callee>.json")
    if not 1 <= len(secrets_by_id) <= MAX_KEYS:
        raise KeyFileError(f"{path}: {len(secrets_by_id)} keys; there must be 1 to {MAX_KEYS}")
    keys = tuple(Key(_key_id(path, key_id), _secret(path, secret)) for key_id, secret in secrets_by_id)
    for column in zip(*secrets_by_id, strict=True):
        if len(set(column)) != len(column):
            raise KeyFileError(f"{path}: an id or a secret occurs twice")
    return PairKeys(caller, callee, keys)


def ensure_keys(root: Path, catalog: Mapping[str, CatalogEntry]) -> list[Path]:
    """Create the missing files, `root/<service>/<caller>--<callee>.json`, on both sides of every call.

    Existing files stay, and a file that only one side has is copied to the other. Concurrent processes create one key.
    Returns the files written. Raises `KeyFileError` for an existing file that cannot be used.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with writing(root):
        for entry in catalog.values():
            (root / entry.name).mkdir(mode=0o700, exist_ok=True)
        return [
            path
            for entry in catalog.values()
            for callee in entry.calls
            for path in _ensure_pair(root, entry.name, callee)
        ]


def sides(root: Path, caller: str, callee: str) -> tuple[Path, Path]:
    """Return the paths of the pair's file, on the caller's side and on the callee's."""
    name = file_name(caller, callee)
    return root / caller / name, root / callee / name


def _ensure_pair(root: Path, caller: str, callee: str) -> list[Path]:
    paths = sides(root, caller, callee)
    present = [path for path in paths if path.exists()]
    for path in present:
        read_key_file(path)
    missing = [path for path in paths if path not in present]
    content = present[0].read_bytes() if present else pair_document(caller, callee, [new_key(datetime.now(UTC))])
    for path in missing:
        write_key_file(path, content)
    return missing


def read_entries(path: Path) -> list[dict[str, str]]:
    """Return the entries of a key file, the sealing key first. Raises like `read_key_file`."""
    read_key_file(path)
    entries: list[dict[str, str]] = orjson.loads(path.read_bytes())["keys"]
    return entries


def pair_document(caller: str, callee: str, entries: Sequence[Mapping[str, str]]) -> bytes:
    """Return the content of a pair's file. Raises `KeyFileError` for more keys than a file may hold."""
    if len(entries) > MAX_KEYS:
        raise KeyFileError(f"{pair_name(caller, callee)}: {len(entries)} keys; there may be at most {MAX_KEYS}")
    document = {"caller": caller, "callee": callee, "keys": entries}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write_key_file(path: Path, content: bytes) -> None:
    """Write a key file atomically, readable by its owner only.

    A replaced file keeps its owner, so that root may rotate the keys of another user's services.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, content, keep_owner=True)


def new_key_id(now: datetime) -> str:
    """Return the id of a new key. It begins with the day, for people."""
    return f"{now:%Y%m%d}-{secrets.token_hex(4)}"


def new_key(now: datetime, key_id: str | None = None) -> dict[str, str]:
    """Return the entry of a new random key."""
    secret = base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    return {"id": key_id or new_key_id(now), "secret": secret}


def writing(root: Path) -> AbstractContextManager[int]:
    """Exclude other writers of the files below `root` while the context is open."""
    return file_lock(root / ".lock")


def _is_service(name: Any) -> bool:
    return isinstance(name, str) and _SERVICE.fullmatch(name) is not None


def _key_id(path: Path, key_id: Any) -> str:
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise KeyFileError(f"{path}: a key id has 1 to 64 characters of A-Z a-z 0-9 _ -")
    return key_id


def _secret(path: Path, text: Any) -> bytes:
    if not isinstance(text, str) or not _URL_SAFE.fullmatch(text):
        raise KeyFileError(f"{path}: a secret is {SECRET_BYTES} bytes in padded base64url")
    secret = base64.urlsafe_b64decode(text)
    # Each secret has one spelling, so that a secret that occurs twice is noticed.
    if base64.urlsafe_b64encode(secret).decode() != text:
        raise KeyFileError(f"{path}: a secret is not in canonical base64url")
    if len(set(secret)) < _LEAST_DISTINCT_BYTES:
        raise KeyFileError(f"{path}: a secret is not random")
    return secret
