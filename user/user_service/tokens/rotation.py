"""Replaces the key that signs access tokens, so that every token keeps its time.

publish  the new key joins the key set; services and gateways fetch it, and verify with it from then on
sign     `current` names it, when every worker of every service holds it and every gateway has had time to
retire   the old key is given the time when its last token expires; the service forgets it then by itself
"""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from servicekit.clock import Clock, utc_now
from servicekit.held_keys import ACCESS_TOKENS
from servicekit.key_files import new_key_id
from servicekit.rotation.fleet import Fleet
from servicekit.rotation.journal import only_rotation
from servicekit.rotation.workers import Agreement, Demand, Need, Say, Workers
from user_service.tokens.issuer import LIFETIME
from user_service.tokens.signing_keys import current_id, make_current, retire_others, write_signing_key

# A gateway looks every 5 s whether its keys are older than 10 s; then it fetches them, and may have to try replicas.
GATEWAY_SECONDS: Final = 20.0
PROGRESS_SECONDS: Final = 5.0
# Clocks differ, and a worker may have been about to sign.
MARGIN: Final = timedelta(minutes=1)


async def rotate_signing_key(
    directory: Path, fleet: Fleet, *, service: str, timeout: float, gateway_seconds: float, say: Say
) -> None:
    """Replace the signing key, or finish what was interrupted. `service` is the one that signs.

    Returns while the old key still verifies. Raises RotationError, `SigningKeyError` and OSError.
    """
    await fleet.require([service])
    with only_rotation(directory) as journal:
        if target := journal.read().get(ACCESS_TOKENS):
            say(f"going on with the interrupted rotation to {target}")
        else:
            target = new_key_id(utc_now())
            journal.write({ACCESS_TOKENS: target})
        agreement = Workers(fleet, timeout=timeout, say=say)
        await SigningKeyChange(directory, service, target, agreement, say, gateway_seconds).perform()
        journal.remove()


class SigningKeyChange:
    """The way to one new key, from wherever an earlier attempt has come."""

    def __init__(
        self,
        directory: Path,
        service: str,
        target: str,
        agreement: Agreement,
        say: Say,
        gateway_seconds: float,
        clock: Clock = utc_now,
    ) -> None:
        self._directory = directory
        self._service = service
        self._target = target
        self._agreement = agreement
        self._say = say
        self._gateway_seconds = gateway_seconds
        self._clock = clock

    async def perform(self) -> None:
        if current_id(self._directory) != self._target:
            await self._publish()
            make_current(self._directory, self._target)
            self._say(f"signing: {self._target}")
        await self._agreement.reach([self._demand(Need.IN_USE, self._service)])
        at = self._clock() + LIFETIME + MARGIN
        for old in retire_others(self._directory, self._target, at):
            self._say(f"retiring: {old} leaves at {_local(at)}, when its last token has expired; nothing is left to do")
        self._say(f"done: access tokens are signed with {self._target}")

    async def _publish(self) -> None:
        if not (self._directory / f"{self._target}.pem").exists():
            write_signing_key(self._directory, self._target)
        self._say(f"published: {self._target}")
        # Until all of them publish it, a copy of the key set may still lack it.
        await self._agreement.reach([self._demand(Need.HELD, self._service)])
        await asyncio.gather(self._agreement.reach([self._demand(Need.HELD, None)]), self._let_gateways_fetch())

    async def _let_gateways_fetch(self) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._gateway_seconds
        while (left := end - clock()) > 0:
            self._say(f"  gateways fetch it within {left:.0f} s")
            await asyncio.sleep(min(left, PROGRESS_SECONDS))

    def _demand(self, need: Need, service: str | None) -> Demand:
        return Demand(None if service is None else frozenset((service,)), ACCESS_TOKENS, self._target, need)


def _local(at: datetime) -> str:
    return f"{at.astimezone():%H:%M}"
