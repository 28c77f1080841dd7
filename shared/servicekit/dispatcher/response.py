"""What a peer answered, and whether that is an answer to use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from servicekit.dispatcher.errors import PeerFailed, PeerRefused, ResponseRejected

_SECONDS = re.compile(r"[0-9]+")
# What our own caller is told at most, however much patience a peer asks for.
_MAX_RETRY_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class PeerResponse:
    """A peer's answer: status, headers (looked up in any case) and the whole body.

    The answer to a sealed call has the headers that the peer sealed, and none of those outside the seal.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Self:
        """Build an answer from plain parts."""
        own = headers if isinstance(headers, CIMultiDict) else CIMultiDict(headers or {})
        return cls(status, CIMultiDictProxy(own), body)

    def json(self) -> Any:
        """Return the parsed body.

        Raises ResponseRejected for a body that is no JSON, so that callers handle it like any other useless answer.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ResponseRejected("the peer", f"the body is not JSON: {error}") from error


def raise_for_status(peer: str, answer: PeerResponse) -> PeerResponse:
    """Return `answer` when it has a status of 2xx or 304, else raise it as PeerFailed or PeerRefused."""
    if 200 <= answer.status < 300 or answer.status == 304:
        return answer
    if is_failure(answer):
        told = retry_after(answer)
        raise PeerFailed(peer, answer, retry_after=1.0 if told is None else min(told, _MAX_RETRY_AFTER))
    raise PeerRefused(peer, answer)


def is_failure(answer: PeerResponse) -> bool:
    """Whether the peer could not answer this time, in contrast to a refusal that a repetition would not change."""
    return answer.status in {408, 429} or answer.status >= 500


def retry_after(answer: PeerResponse, *, now: datetime | None = None) -> float | None:
    """Return the seconds that `Retry-After` asks for (RFC 9110, section 10.2.3), or None when it says nothing."""
    value = answer.headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
