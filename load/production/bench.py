"""What every scenario gets: the stack, and a load on it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from production.load import ORDINARY, Action, Load
from production.load_user import LoadUser
from production.outcome import Outcome
from production.stack import Stack
from production.stats import DurabilityReport


@dataclass(frozen=True)
class Bench:
    """A stack, the rate of the load in requests per second, and whether to use shorter times."""

    stack: Stack
    rate: float
    quick: bool

    async def pause(self, seconds: float) -> None:
        """Let the load go on, for a third of the time if `quick`."""
        await asyncio.sleep(seconds / 3 if self.quick else seconds)

    @asynccontextmanager
    async def notes_under_load(self, outcome: Outcome) -> AsyncIterator[Load]:
        """Keep a load on the platform meanwhile. No request may fail, and each acknowledged note has to exist once."""
        user = await LoadUser.sign_up(await self.stack.gateway())
        async with self.load(user, ORDINARY) as load:
            await self.pause(3)
            yield load
            await self.pause(3)
        outcome.record(load)
        outcome.none_failed()
        report_durability(outcome, DurabilityReport.compare(load.written, await user.notes()), "notes")

    def load(self, user: LoadUser, mix: Mapping[Action, int], share: float = 1.0) -> Load:
        """Return the load of a user, at a share of the rate."""
        return Load(user.gateway, user.headers, mix, rate=self.rate * share)


def report_durability(outcome: Outcome, report: DurabilityReport, what: str) -> None:
    """Note what became of acknowledged writes; none may be lost or doubled."""
    outcome.note(f"{report.acknowledged} {what} acknowledged, {report.lost} lost, {report.doubled} doubled")
    outcome.require(report.lost == 0, f"{report.lost} acknowledged {what} are lost")
    outcome.require(report.doubled == 0, f"{report.doubled} {what} exist more than once")
