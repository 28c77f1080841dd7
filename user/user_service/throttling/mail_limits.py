"""How many mails may be asked for, whether or not they are sent: the limits tell nothing about accounts."""

from typing import Final
from uuid import UUID

from servicekit.core.errors import TooManyRequests
from user_service.throttling.failure_limits import FailureCounter, FailureLimit, FailureLimits, TooManyFailures

# The owner of an address to whom a stranger has mails sent has the mails that would be refused.
PER_RECIPIENT: Final = FailureLimit("mails-recipient", 5, 60 * 60)
PER_NETWORK: Final = FailureLimit("mails-network", 30, 60 * 60)
PER_ACCOUNT: Final = FailureLimit("mails-account", 10, 60 * 60)


class TooManyMails(TooManyRequests):
    """Too many mails were asked for. Retry-After says when the next one may be."""

    type = "urn:baseplate:problem:too-many-mails"
    detail = "Too many mails were asked for. Try again later."


class MailLimits:
    """Counts mails by recipient, and by the client's network or account."""

    def __init__(self, limits: FailureLimits) -> None:
        self._limits = limits

    async def count(self, email_key: str, *, network: str | None = None, user_id: UUID | None = None) -> None:
        """Count a mail to this address. Raises `TooManyMails` instead if a limit is reached."""
        counters = [FailureCounter(PER_RECIPIENT, email_key)]
        if network is not None:
            counters.append(FailureCounter(PER_NETWORK, network))
        if user_id is not None:
            counters.append(FailureCounter(PER_ACCOUNT, str(user_id)))
        try:
            await self._limits.record_failure(*counters)
        except TooManyFailures as error:
            raise TooManyMails(retry_after=int(error.headers["Retry-After"])) from None
