"""The verification of a password, with limits on failures around it."""

from collections.abc import Awaitable, Callable

from user_service.throttling.failure_limits import FailureLimits
from user_service.throttling.rules import counters

Verify = Callable[[str | None, str], Awaitable[bool]]


class PasswordGuard:
    """Verifies passwords and counts failures. An unknown account takes the same work and time as a known one."""

    def __init__(self, limits: FailureLimits, verify: Verify) -> None:
        self._limits = limits
        self._verify = verify

    async def verify(
        self, password_hash: str | None, password: str, *, subject: str, network: str, network_known: bool
    ) -> bool:
        """Tell whether the password is right; `password_hash` is None for an unknown account.

        Raises `TooManyRequests`. The limits are consulted again before the result is returned. So many guesses at once
        reveal no more results than the limits allow.
        """
        attempt = counters(subject, network, network_known=network_known)
        await self._limits.check(*attempt)
        right = await self._verify(password_hash, password)
        if right:
            await self._limits.check(*attempt)
        else:
            await self._limits.record_failure(*attempt)
        return right
