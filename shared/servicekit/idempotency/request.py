"""A request that may be repeated, and the two reasons for which its key is refused.

Conflict 409              KeyInUse    the first request is still in progress
UnprocessableContent 422  KeyReused   the key was used for another request
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal, Self
from uuid import UUID

from prometheus_client import Counter

from servicekit.core.errors import Conflict, UnprocessableContent
from servicekit.idempotency.response import StoredResponse

# How long a response is stored.
KEPT = timedelta(hours=24)
ANONYMOUS = "anonymous"

REPLAYS = Counter("service_idempotency_replays_total", "Requests that got a stored response.", ["route"])
CONFLICTS = Counter(
    "service_idempotency_conflicts_total",
    "Requests whose Idempotency-Key was refused: its first request is in progress, or was another one.",
    ["route", "reason"],
)


class KeyInUse(Conflict):
    """The first request with this Idempotency-Key is in progress. The same key gets its response soon."""

    extensions: ClassVar[Mapping[str, str]] = {}
    type = "urn:baseplate:problem:key-in-flight"
    detail = "A request with this Idempotency-Key is being processed. Try again."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class KeyReused(UnprocessableContent):
    """The Idempotency-Key was used for another request. Choose a new one."""

    type = "urn:baseplate:problem:key-reused"
    extensions: ClassVar[Mapping[str, str]] = {}
    detail = "This Idempotency-Key was used for another request."


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """What the stores need to know of a request.

    `id` stands for the key in its scope. Without a key it is None, and the effect simply runs. `route` is the template
    of the path, for the metrics.
    """

    route: str
    id: bytes | None
    fingerprint: bytes = b""

    @classmethod
    def of(cls, *, method: str, route: str, caller: UUID | str | None, key: str | None, fingerprint: bytes) -> Self:
        """Scope `key` by the caller (None for an anonymous one), the method and the route."""
        if key is None:
            return cls(route, None)
        # None of the first three contains a line break, so different scopes give different texts.
        scope = f"{method}\n{route}\n{ANONYMOUS if caller is None else caller}\n{key}"
        return cls(route, hashlib.sha256(scope.encode()).digest(), fingerprint)

    def replay(self, response: StoredResponse, fingerprint: bytes) -> StoredResponse:
        """Return the stored response as a replay. Raises `KeyReused` if its request had another fingerprint."""
        if not hmac.compare_digest(fingerprint, self.fingerprint):
            self._count_conflict("other_request")
            raise KeyReused
        REPLAYS.labels(self.route).inc()
        return response.as_replay()

    def in_use(self) -> KeyInUse:
        """Count the conflict, and return the error to raise while another request holds the key."""
        self._count_conflict("in_flight")
        return KeyInUse()

    def _count_conflict(self, reason: Literal["in_flight", "other_request"]) -> None:
        CONFLICTS.labels(self.route, reason).inc()
