"""The refresh token as a cookie that no script can read, for frontends that the gateway serves.

With `SESSION_COOKIE=on`, a login or a refresh sets the cookie, and the body has no refresh token. Refresh and logout
read the cookie when the body has none. Browsers send it by themselves, so a request that uses or sets it must come from
a page of the same origin or of an allowed one.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from servicekit.core.errors import Forbidden
from user_service.sessions.rules import IDLE
from user_service.sessions.schemas import TokenPair, TokenResponse

NAME: Final = "__Host-refresh_token"
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class OriginRefused(Forbidden):
    """A page of another origin wants to use or set the session's cookie."""

    type = "urn:baseplate:problem:origin-refused"
    detail = "The session's cookie is for pages of this origin."


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The cookie, and the origins that may use it besides the gateway's own."""

    allowed_origins: Collection[str] = ()

    def check_origin(self, request: Request) -> None:
        """Refuse a page of another origin. A client that is no browser sends no Origin. Raises `OriginRefused`."""
        origin = request.headers.get("origin")
        if origin is not None and not self._allows(origin, request.headers.get("host", "")):
            raise OriginRefused

    def token_in(self, request: Request) -> str | None:
        """Return the refresh token in the cookie, if there is one. Raises `OriginRefused`, also without an Origin."""
        token = request.cookies.get(NAME)
        if token is None:
            return None
        if "origin" not in request.headers:
            raise OriginRefused
        self.check_origin(request)
        return token

    def response(self, tokens: TokenPair | TokenResponse) -> Response:
        """Return the response to a login or a refresh, with the refresh token in the cookie alone."""
        response = Response(
            tokens.model_dump_json(exclude={"refresh_token"}, exclude_none=True),
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
        if tokens.refresh_token is not None:
            self._set(response, tokens.refresh_token, int(IDLE.total_seconds()))
        return response

    def removed(self) -> Response:
        """Return the response to a logout, which removes the cookie."""
        response = Response(status_code=204)
        self._set(response, "", 0)
        return response

    def _allows(self, origin: str, host: str) -> bool:
        if origin in self.allowed_origins:
            return True
        scheme, _, authority = origin.partition("://")
        # The name without the port, which an address of IPv6 has after its bracket.
        name = authority.rpartition(":")[0] if authority.rpartition(":")[2].isdigit() else authority
        # Browsers keep a secure cookie from plain HTTP, except on this machine.
        return authority == host != "" and (scheme == "https" or (scheme == "http" and name in _LOCAL))

    @staticmethod
    def _set(response: Response, value: str, seconds: int) -> None:
        # `__Host-` makes browsers demand Secure and Path=/, and refuse a Domain (RFC 6265bis, section 4.1.3.2).
        response.set_cookie(NAME, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="strict")


def describe_cookie(app: FastAPI) -> None:
    """Make the OpenAPI document say that the body has no refresh token."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        pair = schema["components"]["schemas"]["TokenPair"]
        pair["required"] = [name for name in pair["required"] if name != "refresh_token"]
        return schema

    # The documented way to extend the schema (https://fastapi.tiangolo.com/how-to/extending-openapi/).
    app.openapi = openapi  # type: ignore[method-assign]
