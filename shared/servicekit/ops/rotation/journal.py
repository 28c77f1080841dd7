"""The plan of a rotation: for each set of keys, the id of the key that will replace all others.

It is written before the first key and removed after the last step. The key files show the progress of a rotation, and
the plan shows its target. So an interrupted rotation is finished by running it again.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import orjson

from opskit.file_lock import AlreadyLockedError, directory_lock
from servicekit.ops.rotation.errors import AlreadyRotating, RotationError
from servicekit.sealing.key_files import write_key_file

# Readers of keys skip names with a leading dot.
FILE: Final = ".rotation.json"


class Journal:
    """The journal of the keys below one directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    def read(self) -> Mapping[str, str]:
        """Return the new key's id by set of keys; nothing when no rotation is unfinished. Raises RotationError."""
        try:
            targets = orjson.loads(self._path.read_bytes())["targets"]
        except FileNotFoundError:
            return {}
        except (orjson.JSONDecodeError, KeyError, TypeError):
            targets = None
        if not isinstance(targets, dict) or not all(isinstance(target, str) for target in targets.values()):
            raise RotationError(f"{self._path} is damaged; remove it to begin a new rotation")
        return targets

    def write(self, targets: Mapping[str, str]) -> None:
        write_key_file(self._path, orjson.dumps({"targets": targets}))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


@contextmanager
def only_rotation(directory: Path) -> Iterator[Journal]:
    """Exclude other rotations of these keys and yield the journal. Raises `AlreadyRotating`."""
    with ExitStack() as stack:
        try:
            # The directory itself is locked: a lock file made by root would shut out the directory's owner.
            stack.enter_context(directory_lock(directory, wait=False))
        except AlreadyLockedError as error:
            raise AlreadyRotating(f"another rotation of the keys in {directory} is running; let it finish") from error
        except OSError as error:
            raise RotationError(f"there are no keys in {directory}: {error.strerror}") from error
        yield Journal(directory)
