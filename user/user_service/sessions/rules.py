"""When a session's refresh token is good, and what is kept of the client that logged in."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from user_service.tokens.issuer import LIFETIME

# A session ends when it was not refreshed for so long.
IDLE: Final = timedelta(days=30)
# A client whose answer was lost may ask again for so long.
GRACE: Final = timedelta(seconds=10)
# How long a session is known as ended: until its last access token has expired on the slowest clock.
ENDED_KEPT: Final = LIFETIME + timedelta(minutes=1)
USER_AGENT_LENGTH: Final = 200


class Verdict(Enum):
    """What a presented refresh token gets."""

    ROTATE = auto()
    REPEAT = auto()
    REUSED = auto()
    EXPIRED = auto()


@dataclass(frozen=True, slots=True)
class TokenState:
    """What is known of a presented refresh token; `behind` tells how many tokens of its session came after it."""

    session_expires_at: datetime
    behind: int = 0
    used_at: datetime | None = None


def judge(token: TokenState, now: datetime) -> Verdict:
    """Decide on a presented token. A used one is answered again only within the grace, and if nothing came after it.

    Any other use of it shows that two parties hold the family's tokens, one of them by theft.
    """
    if now >= token.session_expires_at:
        return Verdict.EXPIRED
    if token.behind == 0:
        return Verdict.ROTATE
    # The newest token is always unused, so one behind it has an unused successor.
    if token.behind == 1 and token.used_at is not None and now - token.used_at <= GRACE:
        return Verdict.REPEAT
    return Verdict.REUSED


def readable_user_agent(header: str) -> str:
    """Return what a client calls itself, as one bounded line without control characters."""
    shown = "".join(" " if unicodedata.category(character).startswith("C") else character for character in header)
    return shown[:USER_AGENT_LENGTH].strip()
