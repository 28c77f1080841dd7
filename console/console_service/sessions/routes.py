"""`/console/api/session`."""

from typing import Final

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.actions import Tokens, session_view
from console_service.sessions.guard import COOKIE, CurrentOperator, is_secure
from console_service.sessions.rules import OriginRefused, check_origin
from servicekit.auth.access_tokens import RoleRequired
from servicekit.core.before_body import before_body
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.json_body import RequestBody
from servicekit.web.openapi import problems

PATH: Final = "/console"
TOKEN_LENGTH: Final = 4_096
router = APIRouter(
    prefix="/console/api/session", tags=["session"], route_class=route_with_body_limit(16_384, max_values=10)
)


class LoginTokens(RequestBody):
    """The tokens that the login at the user service gave."""

    access_token: str = Field(min_length=1, max_length=TOKEN_LENGTH, repr=False)
    # Without one, as with SESSION_COOKIE=on, the session lasts as long as the access token.
    refresh_token: str | None = Field(default=None, min_length=1, max_length=TOKEN_LENGTH, repr=False)


async def _own_page(request: Request) -> None:
    check_origin(request.headers)


@before_body(_own_page)
async def _from_own_page(request: Request) -> None:
    await _own_page(request)


@router.post(
    "",
    response_model=None,
    dependencies=[Depends(_from_own_page)],
    responses=problems(RoleRequired, OriginRefused),
)
async def begin_session(body: LoginTokens, request: Request, components: AppComponents) -> Response:
    """Begin a session with the tokens of an administrator."""
    tokens = Tokens(body.access_token, body.refresh_token)
    session, cookie = await components.session_actions.log_in(tokens, replaced=request.cookies.get(COOKIE))
    response = responses.json(session_view(session))
    response.set_cookie(COOKIE, cookie, path=PATH, httponly=True, samesite="strict", secure=is_secure(request))
    return response


@router.get("", response_model=None)
async def read_session(operator: CurrentOperator) -> Response:
    """Return the session of this browser."""
    return responses.json(session_view(operator))


@router.delete("", status_code=204, response_model=None)
async def end_session(operator: CurrentOperator, request: Request, components: AppComponents) -> Response:
    """Log out, at the user service as well."""
    await components.session_actions.log_out(operator)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict", secure=is_secure(request))
    return response
