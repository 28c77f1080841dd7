"""The other services, as the console calls them: in its own name by sealed calls, or in an operator's by a token."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from console_service.audit.actions import AuditEntry
from console_service.sessions.actions import RefreshRefused, Tokens
from servicekit.auth.access_tokens import RoleRequired, SessionEnded
from servicekit.core.errors import Conflict, NotFound, ServiceError, UnprocessableContent
from servicekit.dispatcher import CallPolicy, PeerClient, PeerRefused, PeerResponse, ResponseRejected

USER: Final = "user"
ANALYTICS: Final = "analytics"
USERS: Final = "/api/v1/users"
STATISTICS: Final = "/api/v1/analytics/stats"
# An operator waits for the page.
POLICY: Final = CallPolicy(attempts=2, deadline=5.0, attempt_timeout=2.5, connect_timeout=0.5)
# What a refusal of the user service means to the operator's page.
_REFUSALS: Final[Mapping[int, type[ServiceError]]] = {
    401: SessionEnded,
    403: RoleRequired,
    404: NotFound,
    409: Conflict,
    422: UnprocessableContent,
}


class UserTokens:
    """Fulfils `sessions.actions.TokenService`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def username(self, access_token: str) -> str:
        response = await self._dispatcher.call(USER, f"{USERS}/profile", headers=_bearer(access_token), policy=POLICY)
        return _text(_object(response), "username")

    async def refresh(self, refresh_token: str) -> Tokens:
        body = {"refresh_token": refresh_token}
        try:
            response = await self._dispatcher.call(USER, f"{USERS}/refresh", method="POST", json=body, policy=POLICY)
        except PeerRefused:
            raise RefreshRefused from None
        pair = _object(response)
        return Tokens(_text(pair, "access_token"), _text(pair, "refresh_token"))

    async def log_out(self, tokens: Tokens) -> None:
        await self._dispatcher.call(
            USER,
            f"{USERS}/logout",
            method="POST",
            headers=_bearer(tokens.access_token),
            json={"refresh_token": tokens.refresh_token} if tokens.refresh_token else None,
            policy=POLICY,
        )


class UserAccounts:
    """Accounts, in the name of an operator: the user service decides what the operator may do."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def page(self, token: str, search: str, cursor: str) -> Any:
        params = {name: value for name, value in (("q", search), ("cursor", cursor)) if value}
        return (await self._call(token, USERS, params=params)).json()

    async def one(self, token: str, user_id: UUID) -> Any:
        """Return an account. The user service shows an administrator whole accounts in its list only."""
        account = _object(await self._call(token, f"{USERS}/{user_id}"))
        found = _object(await self._call(token, USERS, params={"q": _text(account, "username")}))
        whole = next((each for each in found.get("items", ()) if each.get("id") == str(user_id)), account)
        return {**whole, "sessions": None}

    async def set_role(self, token: str, user_id: UUID, role: str) -> Any:
        return (await self._call(token, f"{USERS}/{user_id}/role", method="PUT", json={"role": role})).json()

    async def end_sessions(self, token: str, user_id: UUID) -> None:
        await self._call(token, f"{USERS}/{user_id}/sessions", method="DELETE")

    async def delete(self, token: str, user_id: UUID) -> None:
        await self._call(token, f"{USERS}/{user_id}", method="DELETE")

    async def _call(self, token: str, path: str, **options: Any) -> PeerResponse:
        try:
            return await self._dispatcher.call(USER, path, headers=_bearer(token), policy=POLICY, **options)
        except PeerRefused as refusal:
            if (error := _REFUSALS.get(refusal.response.status)) is not None:
                raise error from None
            raise


class AuditLog:
    """Fulfils `audit.actions.AuditStore`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def write(self, entry: AuditEntry) -> None:
        body = {
            "id": str(entry.id),
            "actor_id": str(entry.actor_id),
            "actor": entry.actor,
            "action": entry.action,
            "target": entry.target,
            "outcome": entry.outcome,
        }
        if entry.detail is not None:
            body["detail"] = entry.detail
        # The id makes a repetition harmless, and the key tells the dispatcher so.
        key = f"{entry.id}-{entry.outcome}"
        await self._dispatcher.call(
            USER, "/internal/audit", method="POST", json=body, encrypted=True, idempotency_key=key, policy=POLICY
        )

    async def page(self, limit: int, before: str) -> Any:
        params: dict[str, str | int] = {"limit": limit}
        if before:
            params["before"] = before
        return (
            await self._dispatcher.call(USER, "/internal/audit", params=params, encrypted=True, policy=POLICY)
        ).json()


class PlatformData:
    """Fulfils `data.queries.Summaries`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def summary(self, service: str) -> Sequence[Mapping[str, Any]]:
        response = await self._dispatcher.call(service, "/internal/summary", encrypted=True, policy=POLICY)
        counts = _list(_object(response), "counts")
        if not all("name" in each and "value" in each for each in counts):
            raise ResponseRejected(service, "a count lacks its name or value")
        return counts

    async def event_types(self, access_token: str) -> Mapping[str, int]:
        response = await self._dispatcher.call(ANALYTICS, STATISTICS, headers=_bearer(access_token), policy=POLICY)
        by_type = _object(response).get("by_type")
        if not isinstance(by_type, dict) or not all(isinstance(count, int) for count in by_type.values()):
            raise ResponseRejected(ANALYTICS, "the response has no counts by type")
        return by_type

    async def event_series(self, access_token: str, event_type: str, interval: str) -> Sequence[Mapping[str, Any]]:
        response = await self._dispatcher.call(
            ANALYTICS,
            f"{STATISTICS}/series",
            params={"type": event_type, "interval": interval},
            headers=_bearer(access_token),
            policy=POLICY,
        )
        return _list(_object(response), "items")


class ServiceOutboxes:
    """Fulfils `events.queries.Outboxes`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def outbox(self, service: str) -> Mapping[str, Any]:
        outbox = _object(await self._dispatcher.call(service, "/internal/outbox", encrypted=True, policy=POLICY))
        return {"destinations": _list(outbox, "destinations"), "dead_letters": _list(outbox, "dead_letters")}

    async def retry(self, service: str, ids: Sequence[str] | None) -> int:
        response = await self._dispatcher.call(
            service, "/internal/outbox/retry", method="POST", json={"ids": ids}, encrypted=True, policy=POLICY
        )
        return int(_object(response).get("retried", 0))


def _bearer(access_token: str) -> dict[str, str]:
    """Return the header of a call in an operator's name."""
    return {"Authorization": f"Bearer {access_token}"}


def _object(response: PeerResponse) -> dict[str, Any]:
    document = response.json()
    if not isinstance(document, dict):
        raise ResponseRejected("the peer", "the response is no object")
    return document


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise ResponseRejected("the peer", f"the response has no {name}")
    return value


def _list(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ResponseRejected("the peer", f"the response has no list {name}")
    return value
