"""`/console/api/users`: accounts, by the operator's own token."""

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.json_body import RequestBody

router = APIRouter(prefix="/console/api/users", tags=["users"], route_class=route_with_body_limit(1_024, max_values=10))
_NOTHING: Final = 204


class RoleChange(RequestBody):
    role: Literal["user", "admin"]


@router.get("", response_model=None)
async def list_users(
    operator: CurrentOperator,
    components: AppComponents,
    q: Annotated[str, Query(max_length=254)] = "",
    cursor: Annotated[str, Query(max_length=512)] = "",
) -> Response:
    """List accounts, or those that a search finds."""
    return responses.json(await components.account_actions.page(operator, q, cursor))


@router.get("/{user_id}", response_model=None)
async def read_user(user_id: UUID, operator: CurrentOperator, components: AppComponents) -> Response:
    """Return an account."""
    return responses.json(await components.account_actions.one(operator, user_id))


@router.put("/{user_id}/role", response_model=None)
async def set_user_role(
    user_id: UUID, change: RoleChange, operator: CurrentOperator, components: AppComponents
) -> Response:
    """Give an account a role, which ends its sessions."""
    return responses.json(await components.account_actions.set_role(operator, user_id, change.role))


@router.delete("/{user_id}/sessions", status_code=_NOTHING, response_model=None)
async def end_user_sessions(user_id: UUID, operator: CurrentOperator, components: AppComponents) -> Response:
    """End all sessions of an account, and delete its API keys."""
    await components.account_actions.end_sessions(operator, user_id)
    return Response(status_code=_NOTHING)


@router.delete("/{user_id}", status_code=_NOTHING, response_model=None)
async def delete_user(user_id: UUID, operator: CurrentOperator, components: AppComponents) -> Response:
    """Delete an account with all its data."""
    await components.account_actions.delete(operator, user_id)
    return Response(status_code=_NOTHING)
