"""The keys of one service, looked up in memory and read again soon after their files change.

The keyring watches a directory, because a file that is mounted by itself never shows its replacement. A thread makes a
few `stat` calls every half second, so that no request pays for them and a hanging disk stalls nothing.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from loguru import logger
from prometheus_client import Counter

from servicekit.core.tasks import background_task
from servicekit.observability.key_metrics import KeyMetrics, announce_worker
from servicekit.sealing.ciphers import Key
from servicekit.sealing.key_files import KeyFileError, PairKeys, pair_name, read_key_file

CHECK_SECONDS: Final = 0.5

RELOAD_FAILURES = Counter("service_key_reload_failures_total", "Key files that could not be used after a change.")

_Pair = tuple[str, str]
# Modification time, change time, size and inode. A change of content or of permissions changes one of them.
_Version = tuple[int, int, int, int]


class UnknownKeyError(LookupError):
    """This service has no key for the pair."""


class Keyring:
    """The keys of the pairs that `service` takes part in. `refresh` may run in another thread than the lookups."""

    def __init__(self, service: str, directory: Path) -> None:
        """Read all keys. Raises `KeyFileError` for an unsafe file, OSError for a directory that cannot be read."""
        announce_worker()
        self._service = service
        self._directory = directory
        self._metrics: dict[_Pair, KeyMetrics] = {}
        self._versions = _versions(directory)
        self._files = {name: self._read(name) for name in self._versions}
        self._pairs: Mapping[_Pair, Mapping[str, Key]] = {}
        self._directory_missing = False
        self._publish()

    def sealing_key(self, caller: str, callee: str) -> Key:
        """Return the first key of the pair. Raises `UnknownKeyError`."""
        try:
            return next(iter(self._pairs[caller, callee].values()))
        except KeyError:
            raise UnknownKeyError(f"no key for calls from {caller} to {callee}") from None

    def opening_key(self, caller: str, callee: str, key_id: str) -> Key | None:
        """Return the pair's key with this id, or None."""
        return self._pairs.get((caller, callee), {}).get(key_id)

    def has_pair(self, caller: str, callee: str) -> bool:
        """Whether there is a key for calls from `caller` to `callee`."""
        return (caller, callee) in self._pairs

    def key_ids(self) -> Mapping[_Pair, tuple[str, ...]]:
        """Return the ids of all keys by (caller, callee); the first one seals."""
        return {pair: tuple(keys) for pair, keys in self._pairs.items()}

    def refresh(self) -> None:
        """Read the changed files again, and drop the keys of removed ones.

        A file that cannot be used is logged and counted, and its last good keys stay.
        """
        try:
            found = _versions(self._directory)
        except OSError as error:
            if not self._directory_missing:
                self._report_failure(str(error))
            self._directory_missing = True
            return
        self._directory_missing = False
        changed = {name for name in found if found[name] != self._versions.get(name)}
        removed = self._files.keys() - found.keys()
        for name in removed:
            del self._files[name]
        for name in changed:
            try:
                self._files[name] = self._read(name)
            except (KeyFileError, OSError) as error:
                self._report_failure(str(error))
        self._versions = found
        if changed or removed:
            self._publish()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keep the keys current while the context is open."""
        async with background_task(self._watch()):
            yield

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await asyncio.to_thread(self.refresh)

    def _read(self, name: str) -> PairKeys:
        pair = read_key_file(self._directory / name)
        if self._service not in (pair.caller, pair.callee):
            raise KeyFileError(f"{self._directory / name}: {self._service} takes no part in this pair")
        return pair

    def _publish(self) -> None:
        # One assignment replaces everything, so that a lookup sees either the old keys or the new ones.
        before = self._pairs.keys()
        self._pairs = {(file.caller, file.callee): {key.id: key for key in file.keys} for file in self._files.values()}
        # Only now may the metrics report the keys: key rotation relies on them.
        for pair, ids in self.key_ids().items():
            self._report_keys(pair, ids)
        for pair in before - self._pairs.keys():
            self._report_keys(pair, ())

    def _report_keys(self, pair: _Pair, ids: tuple[str, ...]) -> None:
        metrics = self._metrics.setdefault(pair, KeyMetrics(pair_name(*pair)))
        metrics.report(ids, in_use=next(iter(ids), None))

    @staticmethod
    def _report_failure(reason: str) -> None:
        RELOAD_FAILURES.inc()
        logger.error("the last good service keys stay in use: {}", reason)


def _versions(directory: Path) -> dict[str, _Version]:
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".json") and entry.name[0] != ".")
    return {name: _version((directory / name).stat()) for name in names}


def _version(status: os.stat_result) -> _Version:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
