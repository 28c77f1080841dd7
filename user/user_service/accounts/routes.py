"""Accounts: registration, one's own profile, other users, administration.

The converter `uuid` in a path keeps it from matching words: `GET /users/login` is a wrong method, not an unknown user.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from servicekit.auth.access_tokens import CurrentAdmin, CurrentUser, RoleRequired, SessionEnded
from servicekit.auth.scopes import requires_scope
from servicekit.core.errors import Conflict, UnprocessableContent
from servicekit.core.text import has_unprintable
from servicekit.idempotency import IdempotencyKey, StoredResponse
from servicekit.idempotency.request import ANONYMOUS
from servicekit.sealing.route_policy import OptionalCallerService, optional, sealed
from servicekit.web.openapi import problems
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from servicekit.web.responses import json_response
from user_service.accounts.actions import AccountNotFound
from user_service.accounts.rules import email_key
from user_service.accounts.schemas import (
    Account,
    AccountCount,
    ProfileChange,
    PublicAccount,
    Registration,
    RoleChange,
)
from user_service.bodies import AccountRoute
from user_service.components import AppComponents

PREFIX = "/api/v1/users"
SEARCH_LENGTH: Final = 254
_SEARCH: Final = "The beginning of a user name, an email address or a display name, in any case."
router = APIRouter(prefix=PREFIX, tags=["accounts"], route_class=AccountRoute)
# The gateway routes nothing to /internal/.
internal_router = APIRouter(prefix="/internal", tags=["services"])


@asynccontextmanager
async def _token_refused_if_deleted() -> AsyncIterator[None]:
    """Refuse the token of a deleted account. A moment later, every process knows its sessions as revoked."""
    try:
        yield
    except AccountNotFound:
        raise SessionEnded from None


def _created(account: Account) -> StoredResponse:
    return StoredResponse.json(account, status=201, headers={"Location": f"{PREFIX}/{account.id}"})


@router.post(
    "/register", status_code=201, response_model=Account, dependencies=[optional()], responses=problems(Conflict)
)
async def register_account(
    registration: Registration, key: IdempotencyKey, caller: OptionalCallerService, components: AppComponents
) -> Response:
    """Create an account. 409 if the name or the address is taken; `errors` says which."""
    # Strangers may choose the same key, so the key of an anonymous client is one of the address that it registers.
    scope = caller or f"{ANONYMOUS} {email_key(registration.email)}"
    stored = await components.account_actions.register(registration, await key.scoped_to(scope), _created)
    return stored.to_response()


@router.get("/profile", tags=["profile"], response_model=Account, dependencies=[requires_scope("users:read")])
async def read_profile(user: CurrentUser, components: AppComponents) -> Response:
    """Return one's own account."""
    async with _token_refused_if_deleted():
        return json_response(await components.account_queries.profile(user.id))


@router.patch("/profile", tags=["profile"], responses=problems(Conflict))
async def change_profile(change: ProfileChange, user: CurrentUser, components: AppComponents) -> Account:
    """Change one's email address or display name."""
    async with _token_refused_if_deleted():
        return await components.account_actions.change_profile(user.id, change)


@router.delete("/profile", status_code=204, tags=["profile"])
async def delete_profile(user: CurrentUser, components: AppComponents) -> None:
    """Delete one's own account with all its data."""
    async with _token_refused_if_deleted():
        await components.account_actions.delete(user.id)


@router.get("/stats/count", response_model=AccountCount, dependencies=[optional()])
async def count_accounts(components: AppComponents) -> Response:
    """Return the number of accounts."""
    return json_response(AccountCount(count=await components.account_queries.count()))


@router.get("", tags=["administration"], response_model=Page[Account], responses=problems(RoleRequired))
async def list_accounts(
    _admin: CurrentAdmin,
    components: AppComponents,
    q: Annotated[str | None, Query(max_length=SEARCH_LENGTH, description=_SEARCH)] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """List all accounts, or those that a search finds, the newest first."""
    if q is not None and has_unprintable(q):
        raise UnprocessableContent(errors=[{"field": "query.q", "message": "control characters are not allowed"}])
    return json_response(await components.account_queries.page(limit, cursor, q))


@router.get("/{user_id:uuid}", response_model=PublicAccount, dependencies=[requires_scope("users:read")])
async def read_account(user_id: UUID, _user: CurrentUser, components: AppComponents) -> Response:
    """Return an account as other users see it."""
    return Response(await components.account_queries.public(user_id), media_type="application/json")


@router.delete("/{user_id:uuid}", status_code=204, tags=["administration"], responses=problems(RoleRequired))
async def delete_account(user_id: UUID, _admin: CurrentAdmin, components: AppComponents) -> None:
    """Delete an account with all its data."""
    await components.account_actions.delete(user_id)


@router.put("/{user_id:uuid}/role", tags=["administration"], responses=problems(RoleRequired))
async def set_role(user_id: UUID, change: RoleChange, _admin: CurrentAdmin, components: AppComponents) -> Account:
    """Give an account a role. A changed role revokes the account's sessions."""
    return await components.role_actions.set_role(user_id, change.role)


@internal_router.get("/accounts/{user_id}", response_model=PublicAccount, dependencies=[sealed("notes")])
async def read_author(user_id: UUID, components: AppComponents) -> Response:
    """Return an account as other users see it, for published notes."""
    return Response(await components.account_queries.public(user_id), media_type="application/json")
