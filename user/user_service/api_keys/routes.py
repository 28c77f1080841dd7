"""One's own API keys. No key may use these routes: they declare no scope."""

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from servicekit.auth.access_tokens import CurrentUser
from servicekit.web.openapi import problems
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from servicekit.web.responses import json_response
from user_service.api_keys.schemas import ApiKeyView, CreatedApiKey, NewApiKey
from user_service.bodies import AccountRoute
from user_service.components import AppComponents
from user_service.no_store import no_store

router = APIRouter(prefix="/api/v1/users/api-keys", tags=["api keys"], route_class=AccountRoute)


@router.post("", status_code=201, dependencies=[no_store], responses=problems(409))
async def create_api_key(
    new: NewApiKey, user: CurrentUser, components: AppComponents, response: Response
) -> CreatedApiKey:
    """Make an API key. Only this response has its secret.

    `/api/v1/users/token` exchanges the key for an access token: `client_id` is its id, `client_secret` its secret.
    """
    created = await components.api_key_actions.create(user.id, new)
    response.headers["Location"] = f"{router.prefix}/{created.id}"
    return created


@router.get("", response_model=Page[ApiKeyView])
async def list_api_keys(
    user: CurrentUser, components: AppComponents, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response:
    """List one's own API keys, the newest first."""
    return json_response(await components.api_key_queries.page(user.id, limit, cursor))


@router.get("/{key_id}", response_model=ApiKeyView)
async def read_api_key(key_id: UUID, user: CurrentUser, components: AppComponents) -> Response:
    """Return one of one's own API keys."""
    return json_response(await components.api_key_queries.get(user.id, key_id))


@router.delete("/{key_id}", status_code=204)
async def delete_api_key(key_id: UUID, user: CurrentUser, components: AppComponents) -> None:
    """Delete one of one's own API keys. Its access tokens are refused at once."""
    await components.api_key_actions.revoke(user.id, key_id)
