"""A peer's response, and how its status decides whether it is returned or raised."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from servicekit.dispatcher.errors import DispatchError, PeerUnavailable, ResponseRejected

# The longest wait that our own caller is told, in seconds, even if a peer asks for a longer one.
_MAX_RETRY_AFTER = 60.0
_SECONDS = re.compile(r"[0-9]+")


class PeerResponse(NamedTuple):
    """A peer's response: status, headers (looked up in any case) and the whole body.

    The response to a sealed call has the headers that the peer sealed, and no others.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Self:
        """Build a response from plain parts."""
        own = headers if isinstance(headers, CIMultiDict) else CIMultiDict(headers or {})
        return cls(status, CIMultiDictProxy(own), body)

    def json(self) -> Any:
        """Return the parsed body.

        Raises ResponseRejected if the body is not JSON, so that callers handle it like any other unusable response.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ResponseRejected("the peer", f"the body is not JSON: {error}") from error


class PeerFailed(PeerUnavailable):
    """The peer responded with 408, 429 or 5xx; `response` has the status, headers and body."""

    outcome = "failed"

    def __init__(self, peer: str, response: PeerResponse, *, retry_after: float = 1.0) -> None:
        super().__init__(peer, f"responded with {response.status}", retry_after=retry_after)
        self.response = response


class PeerRefused(DispatchError):
    """The peer responded with a redirect or another refusal; `response` has the status, headers and body."""

    outcome = "refused"

    def __init__(self, peer: str, response: PeerResponse) -> None:
        super().__init__(peer, f"responded with {response.status}")
        self.response = response


def raise_for_status(peer: str, response: PeerResponse) -> PeerResponse:
    """Return a `response` with a status of 2xx or 304; raise any other as PeerFailed or PeerRefused."""
    if 200 <= response.status < 300 or response.status == 304:
        return response
    if is_failure(response):
        wait = retry_after(response)
        raise PeerFailed(peer, response, retry_after=1.0 if wait is None else min(wait, _MAX_RETRY_AFTER))
    raise PeerRefused(peer, response)


def is_failure(response: PeerResponse) -> bool:
    """Whether the peer failed this time. Any other error status is a refusal that a retry would not change."""
    return response.status in {408, 429} or response.status >= 500


def retry_after(response: PeerResponse, *, now: datetime | None = None) -> float | None:
    """Return the seconds that `Retry-After` asks for (RFC 9110, section 10.2.3), or None without a valid value."""
    value = response.headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
