"""Accounts: registration, one's own profile, other users, administration.

`uuid` in a path keeps it apart from those with words: `GET /users/login` is a wrong method, and no user is called so.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from servicekit.auth.access_tokens import CurrentAdmin, CurrentUser, InvalidToken
from servicekit.idempotency import IdempotencyKey, StoredResponse
from servicekit.sealing.route_policy import OptionalCallerService, optional
from servicekit.web.dependencies import provided
from servicekit.web.openapi import problems
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from user_service.accounts.actions import AccountActions, AccountNotFound, RoleActions
from user_service.accounts.queries import AccountQueries
from user_service.accounts.schemas import (
    Account,
    AccountCount,
    ProfileChange,
    PublicAccount,
    Registration,
    RoleChange,
)

PREFIX = "/api/v1/users"
router = APIRouter(prefix=PREFIX, tags=["accounts"])

Actions = Annotated[AccountActions, provided("account_actions")]
Queries = Annotated[AccountQueries, provided("account_queries")]


@asynccontextmanager
async def _own_account() -> AsyncIterator[None]:
    """Refuse the token of an account that is gone; every process knows about its sessions a moment later."""
    try:
        yield
    except AccountNotFound:
        raise InvalidToken from None


def _created(account: Account) -> StoredResponse:
    return StoredResponse.json(account, status=201, headers={"Location": f"{PREFIX}/{account.id}"})


@router.post("/register", status_code=201, response_model=Account, dependencies=[optional()])
async def register(
    registration: Registration, key: IdempotencyKey, caller: OptionalCallerService, actions: Actions
) -> Response:
    """Create an account. 409 for a name or an address that is taken; `errors` says which."""
    answer = await actions.register(registration, await key.scoped_to(caller), _created)
    return answer.to_response()


@router.get("/profile", tags=["profile"])
async def read_profile(user: CurrentUser, queries: Queries) -> Account:
    """Return one's own account."""
    async with _own_account():
        return await queries.profile(user.id)


@router.patch("/profile", tags=["profile"], responses=problems(409))
async def change_profile(change: ProfileChange, user: CurrentUser, actions: Actions) -> Account:
    """Change one's email address or display name."""
    async with _own_account():
        return await actions.change_profile(user.id, change)


@router.delete("/profile", status_code=204, tags=["profile"])
async def delete_profile(user: CurrentUser, actions: Actions) -> None:
    """Delete one's own account and everything that is kept of it."""
    async with _own_account():
        await actions.delete(user.id)


@router.get("/stats/count", dependencies=[optional()])
async def count_accounts(queries: Queries) -> AccountCount:
    """Return how many accounts there are."""
    return AccountCount(count=await queries.count())


@router.get("", tags=["administration"], responses=problems(403))
async def list_accounts(
    _admin: CurrentAdmin, queries: Queries, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[Account]:
    """List all accounts, the newest first."""
    return await queries.page(limit, cursor)


@router.get("/{user_id:uuid}", response_model=PublicAccount)
async def read_account(user_id: UUID, _user: CurrentUser, queries: Queries) -> Response:
    """Return an account as other users see it."""
    return Response(await queries.public(user_id), media_type="application/json")


@router.delete("/{user_id:uuid}", status_code=204, tags=["administration"], responses=problems(403))
async def delete_account(user_id: UUID, _admin: CurrentAdmin, actions: Actions) -> None:
    """Delete an account and everything that is kept of it."""
    await actions.delete(user_id)


@router.put("/{user_id:uuid}/role", tags=["administration"], responses=problems(403))
async def set_role(
    user_id: UUID, change: RoleChange, _admin: CurrentAdmin, actions: Annotated[RoleActions, provided("role_actions")]
) -> Account:
    """Give an account a role. A changed role ends the account's sessions."""
    return await actions.set_role(user_id, change.role)
