"""What a release has done so far, so that another run can go on after an interruption at any point.

It records what docker and the gateway do not show: which image the release is about, and which one was in service
before. How much traffic is shifted, and which replicas run, is read from the gateway and docker.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import Enum, StrEnum, auto
from pathlib import Path

from release_tool.compose import Container
from release_tool.errors import Refused
from release_tool.files import write_atomically
from release_tool.images import CURRENT


class Phase(StrEnum):
    """How far a release is. Until `REPLACING` the version in service is untouched."""

    STARTING = "starting"  # v2's migration and replicas
    SHIFTING = "shifting"  # traffic goes over to v2, in steps
    REPLACING = "replacing"  # v2 has all traffic, and v1's replicas are replaced
    FINISHING = "finishing"  # v1 is replaced; its traffic comes back, and v2 ends


@dataclass(frozen=True, slots=True)
class Journal:
    """One release, or a restart, which is a release of the tag `current`.

    `image` and `previous` are ids; `began` is in seconds since the epoch; `replicas` is v1's count.
    """

    service: str
    tag: str
    image: str
    previous: str
    replicas: int
    began: float
    phase: Phase = Phase.STARTING

    @property
    def command(self) -> str:
        """What the operator gives to go on with it."""
        if self.tag == CURRENT:
            return f"make restart SERVICE={self.service}"
        return f"make release SERVICE={self.service} TAG={self.tag}"

    def at(self, phase: Phase) -> "Journal":
        """Return this release in another phase."""
        return replace(self, phase=phase)

    def precedes(self, container: Container) -> bool:
        """Whether a replica is to be replaced: it runs another image, or the same one from before the release."""
        began = datetime.fromtimestamp(self.began, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        return container.image != self.image or container.created < began

    def brought(self, container: Container) -> bool:
        """Whether a rollback has to replace a replica: it does not run what was in service before the release."""
        return container.image != self.previous


class JournalFile:
    """The journal on disk: there while a release is unfinished."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "release.json"

    def read(self) -> Journal | None:
        """Return the unfinished release, if there is one. Raises `Refused` for a file that cannot be read."""
        try:
            fields = json.loads(self._path.read_text(encoding="utf-8"))
            return Journal(**{**fields, "phase": Phase(fields["phase"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(f"{self._path} cannot be read ({error}); remove it, then: make rollback SERVICE=…") from error

    def write(self, journal: Journal) -> None:
        write_atomically(self._path, json.dumps(asdict(journal)) + "\n", 0o600)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class Begin(Enum):
    """How to begin when a release is ordered."""

    ANEW = auto()
    GO_ON = auto()
    UNDO_FIRST = auto()


def refuse_others(service: str, journal: Journal | None, weights: Mapping[str, int]) -> None:
    """Raise `Refused` when another service's release is unfinished: one at a time."""
    others = {journal.service} if journal else set()
    others |= set(weights)
    if unfinished := sorted(others - {service}):
        raise Refused(
            f"the release of {unfinished[0]} is unfinished; first finish it "
            f"({journal.command if journal else f'make release SERVICE={unfinished[0]}'}) "
            f"or undo it (make rollback SERVICE={unfinished[0]})"
        )


def how_to_begin(image: str, journal: Journal | None, *, leftovers: bool) -> Begin:
    """Decide by what an earlier run left. `leftovers`: the gateway or docker knows a v2 of the service."""
    if journal is None:
        return Begin.UNDO_FIRST if leftovers else Begin.ANEW
    return Begin.GO_ON if journal.image == image else Begin.UNDO_FIRST
