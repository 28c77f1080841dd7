"""Sessions: refresh, logout, the list of one's own."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from servicekit.auth.access_tokens import CurrentAdmin, CurrentUser, OptionalUser
from servicekit.web.dependencies import provided
from servicekit.web.openapi import problems
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from user_service.no_store import no_store
from user_service.sessions.actions import SessionActions
from user_service.sessions.queries import SessionQueries
from user_service.sessions.schemas import LogoutBody, RefreshBody, SessionView, TokenPair

router = APIRouter(prefix="/api/v1/users", tags=["sessions"])

Actions = Annotated[SessionActions, provided("session_actions")]


@router.post("/refresh", dependencies=[no_store], responses=problems(401))
async def refresh(body: RefreshBody, actions: Actions) -> TokenPair:
    """Exchange a refresh token for a new pair. A token that is used twice ends its session."""
    return await actions.refresh(body.refresh_token)


@router.post("/logout", status_code=204)
async def log_out(user: OptionalUser, actions: Actions, body: LogoutBody | None = None) -> None:
    """End the session of the access token, of the refresh token in the body, or of both."""
    await actions.log_out(user.session_id if user else None, body.refresh_token if body else None)


@router.get("/sessions")
async def list_sessions(
    user: CurrentUser,
    queries: Annotated[SessionQueries, provided("session_queries")],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[SessionView]:
    """List one's own sessions, the newest first."""
    return await queries.page(user.id, user.session_id, limit, cursor)


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, user: CurrentUser, actions: Actions) -> None:
    """End one of one's own sessions."""
    await actions.end(user.id, session_id)


@router.delete("/{user_id:uuid}/sessions", status_code=204, tags=["administration"], responses=problems(403))
async def end_sessions_of(user_id: UUID, _admin: CurrentAdmin, actions: Actions) -> None:
    """End all sessions of an account."""
    await actions.end_all(user_id)
