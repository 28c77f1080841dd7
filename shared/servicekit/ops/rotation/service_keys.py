"""Rotation of the keys between services, in three steps that lose no message.

    add      the new key is added to the files of both sides; from then on every worker can open with it
    promote  the new key comes first: callers seal with it, and callees still open messages under the old key
    retire   the old keys are removed, once every message sealed under them has expired

Each step begins when every worker of both services reports the step before. All pairs take each step together, so there
is one wait for old messages.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from servicekit.ops.rotation.errors import RotationError
from servicekit.ops.rotation.journal import only_rotation
from servicekit.ops.rotation.pairs import Pair, Phase, pairs_below, services_of
from servicekit.ops.rotation.workers import Agreement, Need, Say
from servicekit.sealing.ciphers import LIFETIME_SECONDS
from servicekit.sealing.envelope import CLOCK_SKEW_SECONDS
from servicekit.sealing.key_files import new_key_id, pair_name

# No call waits longer for its response, which is sealed under the key of its request.
MESSAGE_SECONDS: Final = LIFETIME_SECONDS + CLOCK_SKEW_SECONDS
PROGRESS_SECONDS: Final = 5.0


class ServiceKeys:
    """The keys of all pairs below `root`, where a message lives for `message_seconds`."""

    def __init__(self, root: Path, agreement: Agreement, *, say: Say, message_seconds: float = MESSAGE_SECONDS) -> None:
        self._root = root
        self._agreement = agreement
        self._say = say
        self._message_seconds = message_seconds

    async def rotate(self, only: str = "") -> None:
        """Replace the keys of all pairs, or of the pair `only`, after finishing an interrupted rotation.

        Raises RotationError, `KeyFileError` and OSError. The keys written until then are valid.
        """
        with only_rotation(self._root) as journal:
            names, interrupted = self._wanted(only), journal.read()
            await self._agreement.require({service for name in (*names, *interrupted) for service in services_of(name)})
            if interrupted:
                self._say(f"continuing the interrupted rotation of {', '.join(interrupted)}")
                await self._reach(interrupted)
                journal.remove()
            if targets := {name: new_key_id(datetime.now(UTC)) for name in names if name not in interrupted}:
                journal.write(targets)
                await self._reach(targets)
                journal.remove()

    def _wanted(self, only: str) -> list[str]:
        names = [pair_name(*pair) for pair in pairs_below(self._root)]
        if only and only not in names:
            raise RotationError(f"there is no pair {only}; the pairs are {', '.join(names)}")
        return [only] if only else names

    async def _reach(self, targets: Mapping[str, str]) -> None:
        """Bring every pair from its phase to its new key."""
        pairs = [Pair(self._root, *services_of(name), target) for name, target in targets.items()]
        await self._add(pairs)
        await self._promote(pairs)
        await self._retire(pairs)
        for pair in pairs:
            self._say(f"done: {pair.name} has the key {pair.target}")

    async def _add(self, pairs: Sequence[Pair]) -> None:
        for pair in (beginning := _in_phase(pairs, Phase.BEGUN)):
            pair.add()
        self._report("added", beginning)
        added = _in_phase(pairs, Phase.ADDED)
        await self._agreement.reach([pair.demand(Need.HELD) for pair in added])

    async def _promote(self, pairs: Sequence[Pair]) -> None:
        # Includes pairs whose promotion was interrupted between the two sides.
        promoted = _in_phase(pairs, Phase.ADDED, Phase.PROMOTED)
        for pair in promoted:
            pair.promote()
        self._report("promoted", promoted)
        await self._agreement.reach([pair.demand(Need.IN_USE) for pair in promoted])
        if promoted:
            await self._let_messages_expire()

    async def _retire(self, pairs: Sequence[Pair]) -> None:
        for pair in (retiring := _in_phase(pairs, Phase.PROMOTED, Phase.RETIRING)):
            pair.retire()
        self._report("retired", retiring)
        await self._agreement.reach([pair.demand(Need.SOLE) for pair in pairs])

    def _report(self, step: str, pairs: Sequence[Pair]) -> None:
        if pairs:
            self._say(f"{step}: {', '.join(pair.name for pair in pairs)}")

    async def _let_messages_expire(self) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._message_seconds
        while (left := end - clock()) > 0:
            self._say(f"  the last messages under old keys expire in {left:.0f} s")
            await asyncio.sleep(min(left, PROGRESS_SECONDS))


def _in_phase(pairs: Iterable[Pair], *phases: Phase) -> list[Pair]:
    return [pair for pair in pairs if pair.phase in phases]
