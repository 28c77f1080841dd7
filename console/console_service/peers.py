"""The other services, as the console calls them: in its own name by sealed calls, or in an operator's by a token."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from loguru import logger

from console_service.audit.actions import AuditEntry
from console_service.sessions.actions import RefreshRefused, Tokens
from servicekit.auth.access_tokens import RoleRequired, SessionEnded
from servicekit.core.errors import Conflict, NotFound, ServiceError, ServiceUnavailable, UnprocessableContent
from servicekit.dispatcher import CallPolicy, DispatchError, PeerClient, PeerRefused, PeerResponse

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


class PeerSilent(ServiceUnavailable):
    """A service gave no usable response. To the page, 502 and 504 would mean that the console cannot be reached."""

    detail = "A service that is needed gave no usable response. Try again."


class _Peers:
    """Calls services. All that goes wrong, apart from a refusal, becomes a 503."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def _call(self, peer: str, path: str, **options: Any) -> PeerResponse:
        try:
            return await self._dispatcher.call(peer, path, policy=POLICY, **options)
        except PeerRefused:
            raise
        except DispatchError as error:
            logger.warning("a call of the console failed: {}", error)
            raise PeerSilent from error

    async def _call_sealed(self, peer: str, path: str, **options: Any) -> PeerResponse:
        """Call in the console's own name. A refusal is a fault, too."""
        try:
            return await self._call(peer, path, encrypted=True, **options)
        except PeerRefused as refusal:
            logger.warning("a call of the console is refused: {}", refusal)
            raise PeerSilent from refusal


class UserTokens(_Peers):
    """Fulfils `sessions.actions.TokenService`."""

    async def username(self, access_token: str) -> str:
        try:
            response = await self._call(USER, f"{USERS}/profile", headers=_bearer(access_token))
        except PeerRefused:
            raise SessionEnded from None
        return _text(_object(response), "username")

    async def refresh(self, refresh_token: str) -> Tokens:
        body = {"refresh_token": refresh_token}
        try:
            response = await self._call(USER, f"{USERS}/refresh", method="POST", json=body)
        except PeerRefused:
            raise RefreshRefused from None
        pair = _object(response)
        return Tokens(_text(pair, "access_token"), _text(pair, "refresh_token"))

    async def log_out(self, tokens: Tokens) -> None:
        await self._call(
            USER,
            f"{USERS}/logout",
            method="POST",
            headers=_bearer(tokens.access_token),
            json={"refresh_token": tokens.refresh_token} if tokens.refresh_token else None,
        )


class UserAccounts(_Peers):
    """Accounts, in the name of an operator: the user service decides what the operator may do."""

    async def page(self, token: str, search: str, cursor: str) -> Any:
        params = {name: value for name, value in (("q", search), ("cursor", cursor)) if value}
        return _json(await self._call_as(token, USERS, params=params))

    async def one(self, token: str, user_id: UUID) -> Any:
        """Return an account. The user service shows an administrator whole accounts in its list only."""
        account = _object(await self._call_as(token, f"{USERS}/{user_id}"))
        found = _object(await self._call_as(token, USERS, params={"q": _text(account, "username")}))
        whole = next((each for each in found.get("items", ()) if each.get("id") == str(user_id)), account)
        return {**whole, "sessions": None}

    async def set_role(self, token: str, user_id: UUID, role: str) -> Any:
        return _json(await self._call_as(token, f"{USERS}/{user_id}/role", method="PUT", json={"role": role}))

    async def end_sessions(self, token: str, user_id: UUID) -> None:
        await self._call_as(token, f"{USERS}/{user_id}/sessions", method="DELETE")

    async def delete(self, token: str, user_id: UUID) -> None:
        await self._call_as(token, f"{USERS}/{user_id}", method="DELETE")

    async def _call_as(self, token: str, path: str, **options: Any) -> PeerResponse:
        try:
            return await self._call(USER, path, headers=_bearer(token), **options)
        except PeerRefused as refusal:
            raise _REFUSALS.get(refusal.response.status, PeerSilent) from None


class AuditLog(_Peers):
    """Fulfils `audit.actions.AuditStore`."""

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
        await self._call_sealed(USER, "/internal/audit", method="POST", json=body, idempotency_key=key)

    async def page(self, limit: int, before: UUID | None) -> Any:
        params: dict[str, str | int] = {"limit": limit}
        if before is not None:
            params["before"] = str(before)
        return _json(await self._call_sealed(USER, "/internal/audit", params=params))


class PlatformData(_Peers):
    """Fulfils `data.queries.Summaries`."""

    async def summary(self, service: str) -> Sequence[Mapping[str, Any]]:
        response = await self._call_sealed(service, "/internal/summary")
        counts = _list(_object(response), "counts")
        if not all("name" in each and "value" in each for each in counts):
            raise PeerSilent
        return counts

    async def event_types(self, access_token: str) -> Mapping[str, int]:
        response = await self._call(ANALYTICS, STATISTICS, headers=_bearer(access_token))
        by_type = _object(response).get("by_type")
        if not isinstance(by_type, dict) or not all(isinstance(count, int) for count in by_type.values()):
            raise PeerSilent
        return by_type

    async def event_series(self, access_token: str, event_type: str, interval: str) -> Sequence[Mapping[str, Any]]:
        response = await self._call(
            ANALYTICS,
            f"{STATISTICS}/series",
            params={"type": event_type, "interval": interval},
            headers=_bearer(access_token),
        )
        return _list(_object(response), "items")


class ServiceOutboxes(_Peers):
    """Fulfils `events.queries.Outboxes`."""

    async def outbox(self, service: str) -> Mapping[str, Any]:
        outbox = _object(await self._call_sealed(service, "/internal/outbox"))
        return {"destinations": _list(outbox, "destinations"), "dead_letters": _list(outbox, "dead_letters")}

    async def retry(self, service: str, ids: Sequence[str] | None) -> int:
        response = await self._call_sealed(service, "/internal/outbox/retry", method="POST", json={"ids": ids})
        return int(_object(response).get("retried", 0))


def _bearer(access_token: str) -> dict[str, str]:
    """Return the header of a call in an operator's name."""
    return {"Authorization": f"Bearer {access_token}"}


def _json(response: PeerResponse) -> Any:
    try:
        return response.json()
    except DispatchError as error:
        raise PeerSilent from error


def _object(response: PeerResponse) -> dict[str, Any]:
    document = _json(response)
    if not isinstance(document, dict):
        raise PeerSilent
    return document


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise PeerSilent
    return value


def _list(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise PeerSilent
    return value
