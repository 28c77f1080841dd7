"""When a refresh token is good, and how long a revoked session is remembered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Final

from servicekit.auth.access_tokens import CLOCK_SKEW_SECONDS
from servicekit.auth.revoked_sessions import Revoked
from user_service.tokens.issuer import LIFETIME

# A session expires this long after its last refresh.
IDLE: Final = timedelta(days=30)
# A client that has not received the response may send a used token once more for this long.
GRACE: Final = timedelta(seconds=10)
# How long a session is known as revoked: until its last access token has expired on the slowest clock.
REVOCATION_KEPT: Final = LIFETIME + timedelta(seconds=CLOCK_SKEW_SECONDS)
# A login beyond this number revokes the oldest sessions of its account.
MAX_SESSIONS: Final = 100
# So many sessions are revoked one by one. More are one revocation, which processes of version 0.1 do not know.
FEW_SESSIONS: Final = 10
# The most API keys of an account. Each ends like a session.
MAX_API_KEYS: Final = 50
# The id of a session of version 0.1 may be so much later than its `created_at`.
ID_DELAY: Final = timedelta(milliseconds=5)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Revocations = Mapping[Revoked, float]
"""What is revoked, each with the time (Unix seconds) until which every process has to know it as revoked."""

Announce = Callable[[Revocations], None]


def milliseconds(time: datetime) -> int:
    """Return the time in whole Unix milliseconds, as in a UUIDv7."""
    return (time - _EPOCH) // timedelta(milliseconds=1)


class Outcome(Enum):
    """How a refresh token is answered."""

    ROTATE = auto()
    REPEAT = auto()
    REUSED = auto()
    EXPIRED = auto()


@dataclass(frozen=True, slots=True)
class TokenState:
    """The state of a refresh token. `behind` is the number of newer tokens of its session.

    `used_from` is the network of its first use; None if a process of version 0.1 has answered it.
    """

    session_expires_at: datetime
    behind: int = 0
    used_at: datetime | None = None
    used_from: str | None = None
    repeated: bool = False


def decide(token: TokenState, now: datetime, network: str) -> Outcome:
    """Decide on a refresh token that a client in this network sends.

    A used token is good once more, for the network that used it, within the grace period, while its successor is
    unused. Any other use shows that two parties hold the session's tokens, one of them by theft.
    """
    if now >= token.session_expires_at:
        return Outcome.EXPIRED
    if token.behind == 0:
        return Outcome.ROTATE
    # The newest token is always unused, so the token before it has an unused successor.
    in_time = token.behind == 1 and token.used_at is not None and now - token.used_at <= GRACE
    if in_time and not token.repeated and token.used_from in (None, network):
        return Outcome.REPEAT
    return Outcome.REUSED
