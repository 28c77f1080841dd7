"""What every scenario is given, and load around what it does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from production.load import ORDINARY, Action, Load
from production.load_user import Visitor
from production.outcome import Outcome
from production.stack import Stack
from production.stats import Kept


@dataclass(frozen=True)
class Bench:
    """A stack, how hard it is used, and whether everything shall be brief."""

    stack: Stack
    rate: float
    quick: bool

    async def pause(self, seconds: float) -> None:
        """Let the load go on, for a third of the time when everything shall be brief."""
        await asyncio.sleep(seconds / 3 if self.quick else seconds)

    @asynccontextmanager
    async def notes_under_load(self, outcome: Outcome) -> AsyncIterator[Load]:
        """Keep the platform busy meanwhile. No request may fail, and every acknowledged note has to be there once."""
        visitor = await Visitor.sign_up(await self.stack.gateway())
        async with self.load(visitor, ORDINARY) as load:
            await self.pause(3)
            yield load
            await self.pause(3)
        outcome.took(load)
        outcome.none_failed()
        report_kept(outcome, Kept.compare(load.written, await visitor.notes()), "notes")

    def load(self, visitor: Visitor, mix: Mapping[Action, int], share: float = 1.0) -> Load:
        """Return the load of a visitor, at a share of the rate."""
        return Load(visitor.gateway, visitor.headers, mix, rate=self.rate * share)


def report_kept(outcome: Outcome, kept: Kept, what: str) -> None:
    """Tell what became of acknowledged writes; none may be lost or doubled."""
    outcome.saw(f"{kept.acknowledged} {what} acknowledged, {kept.lost} lost, {kept.doubled} doubled")
    outcome.must(kept.lost == 0, f"{kept.lost} acknowledged {what} are lost")
    outcome.must(kept.doubled == 0, f"{kept.doubled} {what} are there more than once")
