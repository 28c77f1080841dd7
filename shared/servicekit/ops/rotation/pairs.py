"""The files of one pair of services on their way to a new key: which phase they show, and the next step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

from servicekit.ops.rotation.errors import RotationError
from servicekit.ops.rotation.workers import Demand, Need
from servicekit.sealing.key_files import (
    KeyFileError,
    new_key,
    pair_document,
    pair_name,
    read_entries,
    sides,
    write_key_file,
    writing,
)


class Phase(IntEnum):
    """How far a pair has come on its way to a new key."""

    BEGUN = 0
    ADDED = 1
    PROMOTED = 2
    RETIRING = 3
    DONE = 4


def phase_of(caller: Sequence[str], callee: Sequence[str], target: str) -> Phase:
    """Return the phase that shows in the key ids of both sides' files. A crash may lie between the two."""
    if caller[0] == callee[0] == target:
        if len(caller) == len(callee) == 1:
            return Phase.DONE
        # Old keys leave one side first only after the wait for old messages.
        return Phase.RETIRING if min(len(caller), len(callee)) == 1 else Phase.PROMOTED
    if target in (caller[0], callee[0]):
        return Phase.PROMOTED
    return Phase.ADDED if target in caller and target in callee else Phase.BEGUN


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair of services whose keys are below `root`, during the rotation to the key `target`."""

    root: Path
    caller: str
    callee: str
    target: str

    @property
    def name(self) -> str:
        return pair_name(self.caller, self.callee)

    @property
    def phase(self) -> Phase:
        """Raises `KeyFileError` and OSError for files that cannot be used."""
        caller, callee = ([entry["id"] for entry in entries] for entries in self._entries())
        return phase_of(caller, callee, self.target)

    def add(self) -> None:
        """Add the new key after the others."""
        entries = self._all()
        new = entries.pop(self.target, None) or new_key(datetime.now(UTC), self.target)
        self._write([*entries.values(), new])

    def promote(self) -> None:
        """Put the new key first."""
        entries = self._all()
        new = entries.pop(self.target)
        self._write([new, *entries.values()])

    def retire(self) -> None:
        """Remove all keys but the new one."""
        self._write([self._all()[self.target]])

    def demand(self, need: Need) -> Demand:
        """Return what the workers of both sides have to report about the new key."""
        return Demand(frozenset((self.caller, self.callee)), self.name, self.target, need)

    def _entries(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        caller, callee = sides(self.root, self.caller, self.callee)
        return read_entries(caller), read_entries(callee)

    def _all(self) -> dict[str, dict[str, str]]:
        """Return the keys of both sides by id, the caller's order first."""
        found: dict[str, dict[str, str]] = {}
        for entries in self._entries():
            for entry in entries:
                if found.setdefault(entry["id"], entry)["secret"] != entry["secret"]:
                    raise KeyFileError(f"{self.name}: the two sides have different secrets for the key {entry['id']}")
        return found

    def _write(self, entries: Sequence[Mapping[str, str]]) -> None:
        content = pair_document(self.caller, self.callee, entries)
        caller, callee = sides(self.root, self.caller, self.callee)
        with writing(self.root):
            # The callee first: it opens what the caller will seal.
            write_key_file(callee, content)
            write_key_file(caller, content)


def pairs_below(root: Path) -> list[tuple[str, str]]:
    """Return caller and callee of every pair that has its keys below `root`. Raises RotationError without any."""
    found = sorted({path.stem for path in root.glob("*/[!.]*--*.json")})
    if not found:
        raise RotationError(f"there are no keys below {root}; `make keys` writes them")
    return [services_of(name) for name in found]


def services_of(name: str) -> tuple[str, str]:
    """Return caller and callee of the pair of this name."""
    caller, _, callee = name.partition("--")
    return caller, callee
