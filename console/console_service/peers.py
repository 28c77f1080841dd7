"""The other services, as the console calls them."""

from typing import Any, Final

from console_service.sessions.actions import RefreshRefused, Tokens
from servicekit.dispatcher import CallPolicy, PeerClient, PeerRefused, ResponseRejected

USER: Final = "user"
USERS_PATH: Final = "/api/v1/users"
# An operator waits for the page.
POLICY: Final = CallPolicy(attempts=2, deadline=5.0, attempt_timeout=2.5, connect_timeout=0.5)


def bearer(access_token: str) -> dict[str, str]:
    """Return the header of a call in an operator's name."""
    return {"Authorization": f"Bearer {access_token}"}


class UserTokens:
    """Fulfils `sessions.actions.TokenService`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def username(self, access_token: str) -> str:
        response = await self._dispatcher.call(
            USER, f"{USERS_PATH}/profile", headers=bearer(access_token), policy=POLICY
        )
        return _text(response.json(), "username")

    async def refresh(self, refresh_token: str) -> Tokens:
        try:
            response = await self._dispatcher.call(
                USER, f"{USERS_PATH}/refresh", method="POST", json={"refresh_token": refresh_token}, policy=POLICY
            )
        except PeerRefused:
            raise RefreshRefused from None
        pair = response.json()
        # With SESSION_COOKIE=on, the refresh token comes as a cookie.
        cookie = response.headers.get("set-cookie", "").partition(";")[0].partition("=")[2]
        refreshed = pair.get("refresh_token") if isinstance(pair, dict) else None
        return Tokens(_text(pair, "access_token"), refreshed or cookie or refresh_token)

    async def log_out(self, tokens: Tokens) -> None:
        body = {"refresh_token": tokens.refresh_token} if tokens.refresh_token else None
        await self._dispatcher.call(
            USER,
            f"{USERS_PATH}/logout",
            method="POST",
            headers=bearer(tokens.access_token),
            json=body,
            policy=POLICY,
        )


def _text(document: Any, name: str) -> str:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, str):
        raise ResponseRejected(USER, f"the response has no {name}")
    return value
