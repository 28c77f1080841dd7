"""Login, as JSON and as a form of OAuth 2."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from servicekit.web.json_body import RequestBody
from servicekit.web.openapi import problems
from user_service.bodies import AccountRoute
from user_service.client import RequestClient
from user_service.components import AppComponents
from user_service.logins.actions import Credentials
from user_service.logins.token_request import OPENAPI, InvalidGrant, PasswordGrant, read_grant
from user_service.no_store import no_store
from user_service.passwords.rules import EXAMPLE_PASSWORD, MAX_INPUT_LENGTH
from user_service.sessions.actions import RefreshRefused
from user_service.sessions.schemas import TokenPair

router = APIRouter(prefix="/api/v1/users", tags=["login"], route_class=AccountRoute)

Name = Annotated[str, Field(min_length=1, max_length=512, examples=["ada"])]
Password = Annotated[str, Field(min_length=1, max_length=MAX_INPUT_LENGTH, repr=False, examples=[EXAMPLE_PASSWORD])]


class LoginBody(RequestBody):
    username_or_email: Name
    password: Password


@router.post("/login", dependencies=[no_store], responses=problems(401))
async def log_in(body: LoginBody, client: RequestClient, components: AppComponents) -> TokenPair:
    """Exchange a name or an email address and a password for tokens."""
    return await components.login_actions.log_in(Credentials(body.username_or_email, body.password), client)


@router.post("/token", dependencies=[no_store], responses=problems(400, 401, 415), openapi_extra=OPENAPI)
async def issue_token(request: Request, client: RequestClient, components: AppComponents) -> TokenPair:
    """Log in, or refresh, by a form of OAuth 2: the grant types are `password` and `refresh_token`."""
    grant = await read_grant(request)
    if isinstance(grant, PasswordGrant):
        credentials = Credentials(grant.username, grant.password)
        return await components.login_actions.log_in(credentials, client)
    try:
        return await components.session_actions.refresh(grant.refresh_token, client.network)
    except RefreshRefused:
        raise InvalidGrant from None
