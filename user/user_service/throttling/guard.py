"""The verification of a password, with limits on failures around it."""

from collections.abc import Awaitable, Callable, Collection

from user_service.throttling.failure_limits import FailureLimits
from user_service.throttling.rules import counters, forgiven

Verify = Callable[[str | None, str], Awaitable[bool]]


class PasswordGuard:
    """Verifies passwords and counts failures. An unknown account takes the same work and time as a known one."""

    def __init__(self, limits: FailureLimits, verify: Verify) -> None:
        self._limits = limits
        self._verify = verify

    async def verify(
        self,
        password_hash: str | None,
        password: str,
        *,
        subject: str,
        network: str,
        network_known: bool,
        aliases: Collection[str] = (),
    ) -> bool:
        """Tell whether the password is right; `password_hash` is None for an unknown account.

        `subject` is what the client calls the account: failures under one name say nothing about another. A right
        password ends the count of this network for the subject and its `aliases`.

        Raises `TooManyRequests`. The limits are consulted again before the result is returned. So many guesses at once
        reveal no more results than the limits allow.
        """
        attempt = counters(subject, network, network_known=network_known)
        await self._limits.check(*attempt)
        right = await self._verify(password_hash, password)
        if right:
            await self._limits.record_success(*attempt, *(forgiven(alias, network) for alias in aliases))
        else:
            await self._limits.record_failure(*attempt)
        return right

    async def forgive(self, names: Collection[str], network: str) -> None:
        """End the count of this network for each name of an account, as a right password does."""
        await self._limits.record_success(*(forgiven(name, network) for name in names))
