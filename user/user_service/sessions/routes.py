"""Sessions: refresh, logout, list, revocation."""

from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from servicekit.auth.access_tokens import CurrentAdmin, CurrentUser, RoleRequired, UncheckedUser
from servicekit.core.errors import UnprocessableContent
from servicekit.web.openapi import problems
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from servicekit.web.responses import json_response
from user_service.bodies import AccountRoute
from user_service.client import RequestClient
from user_service.components import AppComponents
from user_service.no_store import no_store
from user_service.sessions.actions import RefreshRefused
from user_service.sessions.cookie import OriginRefused
from user_service.sessions.schemas import LogoutBody, RefreshBody, SessionView, TokenPair

router = APIRouter(prefix="/api/v1/users", tags=["sessions"], route_class=AccountRoute)


@router.post(
    "/refresh", dependencies=[no_store], response_model=TokenPair, responses=problems(RefreshRefused, OriginRefused)
)
async def refresh_session(
    request: Request, client: RequestClient, components: AppComponents, body: RefreshBody | None = None
) -> TokenPair | Response:
    """Exchange a refresh token for a new pair.

    A used token is answered once more within 10 seconds, for a client whose response was lost. Any other second use
    revokes the session.
    """
    cookie = components.session_cookie
    refresh_token = body.refresh_token if body else None
    if cookie:
        cookie.check_origin(request)
        refresh_token = refresh_token or cookie.token_in(request)
    if refresh_token is None:
        raise UnprocessableContent(errors=[{"field": "body.refresh_token", "message": "is required"}])
    pair = await components.session_actions.refresh(refresh_token, client.network)
    return cookie.response(pair) if cookie else pair


@router.post("/logout", status_code=204, response_model=None, responses=problems(OriginRefused))
async def log_out(
    request: Request, user: UncheckedUser, components: AppComponents, body: LogoutBody | None = None
) -> Response | None:
    """Revoke the session of the refresh token in the body, and that of the access token.

    With a refresh token, an invalid access token does no harm. Without one, it is refused.
    """
    cookie = components.session_cookie
    refresh_token = body.refresh_token if body else None
    if cookie:
        refresh_token = refresh_token or cookie.token_in(request)
    principal = user.principal if refresh_token is not None else user.require()
    await components.session_actions.log_out(principal.session_id if principal else None, refresh_token)
    return cookie.removed() if cookie else None


@router.get("/sessions", response_model=Page[SessionView])
async def list_sessions(
    user: CurrentUser,
    components: AppComponents,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """List one's own sessions, the newest first."""
    page = await components.session_queries.page(user.id, user.session_id, limit, cursor)
    return json_response(page)


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, user: CurrentUser, components: AppComponents) -> None:
    """Revoke one of one's own sessions."""
    await components.session_actions.revoke(user.id, session_id)


@router.delete("/{user_id:uuid}/sessions", status_code=204, tags=["administration"], responses=problems(RoleRequired))
async def end_sessions_of(user_id: UUID, _admin: CurrentAdmin, components: AppComponents) -> None:
    """Revoke all sessions of an account, and delete its API keys."""
    await components.session_actions.revoke_all(user_id)
