"""What every route of the API depends on: an operator's session, and a request that the console's page made."""

from typing import Annotated, Final

from fastapi import Depends, Request

from console_service.components import components_of
from console_service.sessions.actions import check_csrf
from console_service.sessions.memory import OperatorSession
from console_service.sessions.rules import SAFE_METHODS, check_origin
from servicekit.core.before_body import before_body
from servicekit.core.errors import Unauthorized

COOKIE: Final = "console_session"
CSRF_HEADER: Final = "x-csrf-token"
# The entry of the scope that holds the session once it is checked. No client can set an entry of the scope.
_SESSION_KEY: Final = "console.session"


async def require_operator(request: Request) -> OperatorSession:
    """Return the session of a request. A request that changes something must come from the console's own page.

    Raises `Unauthorized`, `SessionEnded`, `RoleRequired`, `OriginRefused` and `CsrfRefused`.
    """
    known: OperatorSession | None = request.scope.get(_SESSION_KEY)
    if known is not None:
        return known
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        raise Unauthorized
    session = await components_of(request).session_actions.find(cookie)
    if request.method not in SAFE_METHODS:
        check_origin(request.headers)
        check_csrf(session, request.headers.get(CSRF_HEADER, ""))
    request.scope[_SESSION_KEY] = session
    return session


@before_body(require_operator)
async def _current_operator(request: Request) -> OperatorSession:
    return await require_operator(request)


CurrentOperator = Annotated[OperatorSession, Depends(_current_operator)]
"""The operator's session; 401 without one."""


def page_url(request: Request) -> str:
    """Return the base URL under which the browser reaches the gateway. It is shown to the operator and never called."""
    scheme = "https" if is_secure(request) else "http"
    return f"{scheme}://{request.headers.get('host', '')}"


def is_secure(request: Request) -> bool:
    """Whether the browser reached the gateway by TLS."""
    return request.headers.get("x-forwarded-proto", "") == "https"
