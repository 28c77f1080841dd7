"""A dispatcher for unit tests, without peers: it records calls and returns scripted responses.

It holds calls to the same rules: a call that `Dispatcher` would refuse raises InvalidCall here too, and a status such
as 404 is raised as PeerRefused. The contract tests run against both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from servicekit.dispatcher.call import Param, build_call
from servicekit.dispatcher.errors import DispatchError
from servicekit.dispatcher.policy import CallPolicy
from servicekit.dispatcher.response import PeerResponse, raise_for_status


class UnexpectedCall(AssertionError):
    """A call for which no outcome is scripted."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """The arguments of one call."""

    peer: str
    method: str
    path: str
    params: Mapping[str, Param] | None
    headers: Mapping[str, str] | None
    json: Any
    content: bytes | None
    encrypted: bool
    idempotency_key: str | None
    deadline: float | None
    policy: CallPolicy | None


class FakeDispatcher:
    """Implements `servicekit.dispatcher.PeerClient`.

        dispatcher = FakeDispatcher()
        dispatcher.will_return("user", "/api/v1/users/stats/count", json={"count": 3})
        dispatcher.will_fail("analytics", "/api/v1/analytics/events", PeerTimeout("analytics", "late"), method="POST")

    Several outcomes of one route follow each other; the last one repeats.
    """

    def __init__(self) -> None:
        self.calls: list[RecordedCall] = []
        self._outcomes: dict[tuple[str, str, str], list[PeerResponse | DispatchError]] = {}

    def will_return(
        self,
        peer: str,
        path: str,
        *,
        method: str = "GET",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes = b"",
    ) -> None:
        """Script the next response of one route."""
        body = content if json is None else orjson.dumps(json)
        self._add(peer, method, path, PeerResponse.of(status, headers, body))

    def will_fail(self, peer: str, path: str, error: DispatchError, *, method: str = "GET") -> None:
        """Script an error as the next outcome of one route."""
        self._add(peer, method, path, error)

    async def call(
        self,
        peer: str,
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, Param] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        encrypted: bool = False,
        idempotency_key: str | Literal[True] | None = None,
        deadline: float | None = None,
        policy: CallPolicy | None = None,
    ) -> PeerResponse:
        """Record the call, and return or raise its scripted outcome. Raises UnexpectedCall without one."""
        checked = build_call(
            path,
            method=method,
            params=params,
            headers=headers,
            json=json,
            content=content,
            idempotency_key=idempotency_key,
        )
        self.calls.append(
            RecordedCall(
                peer=peer,
                method=method,
                path=path,
                params=params,
                headers=headers,
                json=json,
                content=content,
                encrypted=encrypted,
                idempotency_key=checked.headers.get("idempotency-key"),
                deadline=deadline,
                policy=policy,
            )
        )
        return self._outcome(peer, method, path)

    def _add(self, peer: str, method: str, path: str, outcome: PeerResponse | DispatchError) -> None:
        self._outcomes.setdefault((peer, method, path), []).append(outcome)

    def _outcome(self, peer: str, method: str, path: str) -> PeerResponse:
        outcomes = self._outcomes.get((peer, method, path))
        if not outcomes:
            raise UnexpectedCall(f"{method} {path} of {peer} was called, but no outcome is scripted for it")
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if isinstance(outcome, DispatchError):
            raise outcome
        return raise_for_status(peer, outcome)
