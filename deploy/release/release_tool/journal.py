"""The record of an unfinished release, from which a later run goes on after an interruption at any point.

It holds what neither the orchestrator nor the gateway shows: which image is being released, and which one was in
service before.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from opskit.atomic_file import write_atomically
from release_tool.errors import Refused
from release_tool.orchestrator import CURRENT, Commands, Container


class Phase(StrEnum):
    """How far a release is. Until `REPLACING`, the version in service is untouched."""

    STARTING = "starting"  # v2 migrates the database and starts
    SHIFTING = "shifting"  # traffic moves to v2, in steps
    REPLACING = "replacing"  # v2 has all traffic, and v1's replicas are replaced
    FINISHING = "finishing"  # v1 is replaced; its traffic comes back, and v2 ends


@dataclass(frozen=True, slots=True)
class Journal:
    """A release, or a restart, which is a release of the tag `current`.

    `image` and `previous` are ids of images, `replicas` is v1's count, `began` is in seconds since the epoch.
    """

    service: str
    tag: str
    image: str
    previous: str
    replicas: int
    began: float
    phase: Phase = Phase.STARTING

    def command(self, commands: Commands) -> str:
        """Return the command that goes on with it."""
        if self.tag == CURRENT:
            return f"{commands.restart} SERVICE={self.service}"
        return f"{commands.release} SERVICE={self.service} TAG={self.tag}"

    def ways_on(self, commands: Commands) -> str:
        """Return what the operator can do about it, for a message."""
        return f"first finish it ({self.command(commands)}) or undo it ({commands.rollback} SERVICE={self.service})"

    @property
    def changes_image(self) -> bool:
        return self.image != self.previous

    def at(self, phase: Phase) -> "Journal":
        """Return this release in another phase."""
        return replace(self, phase=phase)

    def is_outdated(self, replica: Container) -> bool:
        """Whether the release has to replace a replica: it has another image, or is older than the release."""
        return replica.image != self.image or created_before(self.began)(replica)

    def is_new(self, replica: Container) -> bool:
        """Whether a rollback has to replace a replica: it does not run the image from before the release."""
        return replica.image != self.previous


def created_before(seconds: float) -> Callable[[Container], bool]:
    """Return what tells whether a replica is older than a time, given in seconds since the epoch."""
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return lambda replica: replica.created < moment


class JournalStore(Protocol):
    """Keeps the journal while a release is unfinished."""

    def read(self) -> Journal | None:
        """Return the unfinished release, or None. Raises `Refused` for a journal that cannot be read."""
        ...

    def write(self, journal: Journal) -> None: ...

    def remove(self) -> None: ...


class JournalFile:
    """The journal on the disk of the host."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "release.json"

    def read(self) -> Journal | None:
        try:
            return journal_of(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(f"{self._path} cannot be read ({error}); remove it, then: make rollback SERVICE=…") from error

    def write(self, journal: Journal) -> None:
        write_atomically(self._path, journal_text(journal) + "\n")

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def journal_of(text: str) -> Journal:
    """Return the journal that a text holds. Raises `ValueError`, `KeyError` or `TypeError`."""
    fields = json.loads(text)
    return Journal(**{**fields, "phase": Phase(fields["phase"])})


def journal_text(journal: Journal) -> str:
    """Return a journal as text."""
    return json.dumps(asdict(journal))
