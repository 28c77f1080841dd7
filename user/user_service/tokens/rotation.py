"""The replacement of the key that signs access tokens. Every token stays valid until it expires.

publish  the new key joins the key set; services and gateways fetch it, and verify with it from then on
sign     `current` names it once every worker of every service holds it and every gateway has had time to fetch it
retire   the old key gets the time at which its last token expires; the service then forgets it by itself
"""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Final

from servicekit.core.clock import Clock, utc_now
from servicekit.observability.key_metrics import ACCESS_TOKENS
from servicekit.ops.rotation.journal import only_rotation
from servicekit.ops.rotation.workers import Agreement, Demand, Need, Say
from servicekit.sealing.key_files import new_key_id
from user_service.tokens.issuer import LIFETIME
from user_service.tokens.signing_keys import current_id, make_current, retire_others, write_signing_key

# Every 5 s, a gateway fetches keys that are older than 10 s, and it may have to try several replicas.
GATEWAY_SECONDS: Final = 20.0
PROGRESS_SECONDS: Final = 5.0
# For differing clocks, and for a worker that was about to sign.
MARGIN: Final = timedelta(minutes=1)


class SigningKeyRotation:
    """The rotation of the signing keys in a directory, with which the workers of `service` sign."""

    def __init__(
        self,
        directory: Path,
        agreement: Agreement,
        *,
        service: str,
        say: Say,
        gateway_seconds: float = GATEWAY_SECONDS,
        clock: Clock = utc_now,
    ) -> None:
        self._directory = directory
        self._agreement = agreement
        self._service = service
        self._say = say
        self._gateway_seconds = gateway_seconds
        self._clock = clock

    async def rotate(self) -> None:
        """Replace the signing key, or finish an interrupted rotation. The old key still verifies when this returns.

        Raises RotationError, `SigningKeyError` and OSError.
        """
        await self._agreement.require([self._service])
        with only_rotation(self._directory) as journal:
            if target := journal.read().get(ACCESS_TOKENS):
                self._say(f"continuing the interrupted rotation to {target}")
            else:
                target = new_key_id(self._clock())
                journal.write({ACCESS_TOKENS: target})
            if current_id(self._directory) != target:
                await self._publish(target)
                make_current(self._directory, target)
                self._say(f"signing: {target}")
            await self._agreement.reach([self._demand(target, Need.IN_USE)])
            self._retire_all_but(target)
            journal.remove()
        self._say(f"done: access tokens are signed with {target}")

    async def _publish(self, target: str) -> None:
        if not (self._directory / f"{target}.pem").exists():
            write_signing_key(self._directory, target)
        self._say(f"published: {target}")
        # Until all workers publish it, a fetched key set may still lack it.
        await self._agreement.reach([self._demand(target, Need.HELD)])
        everywhere = Demand(None, ACCESS_TOKENS, target, Need.HELD)
        await asyncio.gather(self._agreement.reach([everywhere]), self._let_gateways_fetch())

    def _retire_all_but(self, target: str) -> None:
        at = self._clock() + LIFETIME + MARGIN
        for old in retire_others(self._directory, target, at):
            self._say(f"retiring: the service forgets {old} by itself at {at.astimezone():%H:%M}, after its last token")

    async def _let_gateways_fetch(self) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._gateway_seconds
        while (left := end - clock()) > 0:
            self._say(f"  gateways fetch it within {left:.0f} s")
            await asyncio.sleep(min(left, PROGRESS_SECONDS))

    def _demand(self, target: str, need: Need) -> Demand:
        return Demand(frozenset((self._service,)), ACCESS_TOKENS, target, need)
