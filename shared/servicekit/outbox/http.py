"""Delivery of one fact, and the three ways in which it may fail.

DeliveryError
├── DestinationUnavailable    cannot be reached: says nothing about the event, which waits as long as it takes
└── DeliveryRefused           the destination will never take this fact: it is parked at once
any other exception    this attempt failed: tried again with growing pauses, and parked after many failures
"""

import traceback
from pathlib import Path
from typing import Final, Protocol

import orjson

from servicekit.dispatcher import (
    DispatchError,
    InvalidCall,
    PeerClient,
    PeerFailed,
    PeerRefused,
    PeerTimeout,
    PeerUnavailable,
)
from servicekit.dispatcher.response import PeerResponse, retry_after
from servicekit.outbox.events import DomainEvent, Subscription

CALL_SECONDS: Final = 5.0
# The longest error text that is kept, in characters.
ERROR_LENGTH: Final = 300

# Statuses that speak of the moment or of the connection between the two services (its keys, a proxy), not of the fact.
_AWAY: Final = frozenset({401, 408, 429, 502, 503, 504})
# Statuses that another version of the destination, or the next attempt, may not give.
_PASSING: Final = frozenset({404, 405, 409, 425})


class DeliveryError(Exception):
    """A fact was not delivered. The text is kept with the fact and logged: it holds no payload."""


class DestinationUnavailable(DeliveryError):
    """The destination cannot take facts now; `retry_after` is how many seconds it asked for, if it did."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class DeliveryRefused(DeliveryError):
    """The destination has refused the fact for good."""


def described(error: BaseException) -> str:
    """Return the text of a failure that is logged and kept with the fact.

    What an unforeseen error says may quote the fact's content, so of such a one only its kind and place are told.
    """
    if isinstance(error, DeliveryError):
        text = str(error)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        text = f"{type(error).__name__}{place}"
    # PostgreSQL stores neither a NUL nor half a character.
    return text.replace("\0", "").encode(errors="replace").decode()[:ERROR_LENGTH]


class Delivers(Protocol):
    """Brings one fact to one destination."""

    async def deliver(self, route: Subscription, fact: DomainEvent) -> None:
        """Return when the destination has it. Raises `DeliveryError` or anything else, see above."""


class SealedDelivery:
    """Delivers by sealed calls."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def deliver(self, route: Subscription, fact: DomainEvent) -> None:
        """Post the fact; see `Delivers.deliver`.

        It carries no Idempotency-Key: the fact's own id does that work, and for longer than a day.
        """
        body = dict(route.body(fact))
        try:
            await self._dispatcher.call(
                route.destination, route.path, method="POST", json=body, encrypted=True, deadline=CALL_SECONDS
            )
        except (DispatchError, InvalidCall) as error:
            raise _named(error) from error


def _named(error: DispatchError | InvalidCall) -> DeliveryError:
    if isinstance(error, PeerRefused | PeerFailed):
        return _answered(error.response)
    # An invalid call is one to a peer whose address or key is not configured yet: nothing that the fact could help.
    if isinstance(error, PeerUnavailable | PeerTimeout | InvalidCall):
        return DestinationUnavailable(str(error))
    return DeliveryError(str(error))


def _answered(answer: PeerResponse) -> DeliveryError:
    reason = f"answered {answer.status}{_detail(answer)}"
    if answer.status in _AWAY:
        return DestinationUnavailable(reason, retry_after=retry_after(answer))
    if 400 <= answer.status < 500 and answer.status not in _PASSING:
        return DeliveryRefused(reason)
    return DeliveryError(reason)


def _detail(answer: PeerResponse) -> str:
    """Return what a problem document says. Our services write neither values nor secrets into it."""
    try:
        problem = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(problem, dict) or not isinstance(problem.get("detail"), str):
        return ""
    fields = [str(item.get("field")) for item in problem.get("errors") or () if isinstance(item, dict)]
    return f": {problem['detail']}" + (f" ({', '.join(fields)})" if fields else "")
