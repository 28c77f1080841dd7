"""The check of a password against its hash, with the limits on failures around it."""

from typing import Protocol

from user_service.passwords.rules import normalize_password
from user_service.throttling.failure_limits import Counted, Verdict
from user_service.throttling.rules import counters


class Limits(Protocol):
    async def look(self, *counters: Counted) -> Verdict: ...

    async def count(self, *counters: Counted) -> Verdict: ...


class Verifier(Protocol):
    async def verify(self, encoded: str | None, password: str) -> bool: ...


class PasswordGuard:
    """Checks passwords. Whether an account exists makes no difference to what it does, nor to how long it takes."""

    def __init__(self, limits: Limits, verifier: Verifier) -> None:
        self._limits = limits
        self._verifier = verifier

    async def passes(
        self, encoded: str | None, password: str, *, subject: str, network: str, network_known: bool
    ) -> bool:
        """Tell whether this is the password; `encoded` is None for an unknown account.

        Raises `TooManyRequests`. The outcome is settled with the limits before it is told, so that of many guesses at
        once no more are answered than the limits allow.
        """
        attempt = counters(subject, network, network_known=network_known)
        (await self._limits.look(*attempt)).check()
        right = await self._verifier.verify(encoded, normalize_password(password))
        verdict = await (self._limits.look(*attempt) if right else self._limits.count(*attempt))
        verdict.check()
        return right
