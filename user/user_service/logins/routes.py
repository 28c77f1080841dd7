"""Login, as JSON and as a form of OAuth 2."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from servicekit.web.json_body import RequestBody
from servicekit.web.openapi import problems
from user_service.api_keys.actions import InvalidClient
from user_service.api_keys.rules import KeyCredentials
from user_service.bodies import AccountRoute
from user_service.client import RequestClient
from user_service.components import AppComponents
from user_service.logins.actions import Credentials, EmailNotVerified, InvalidCredentials
from user_service.logins.token_request import (
    OPENAPI,
    ClientCredentialsGrant,
    InvalidGrant,
    InvalidTokenRequest,
    PasswordGrant,
    UnsupportedGrant,
    has_basic_credentials,
    read_grant,
)
from user_service.no_store import no_store
from user_service.passwords.rules import EXAMPLE_PASSWORD, MAX_INPUT_LENGTH
from user_service.sessions.actions import RefreshRefused
from user_service.sessions.cookie import OriginRefused
from user_service.sessions.schemas import TokenPair, TokenResponse
from user_service.throttling.failure_limits import TooManyFailures

router = APIRouter(prefix="/api/v1/users", tags=["login"], route_class=AccountRoute)

Name = Annotated[str, Field(min_length=1, max_length=512, examples=["ada"])]
Password = Annotated[str, Field(min_length=1, max_length=MAX_INPUT_LENGTH, repr=False, examples=[EXAMPLE_PASSWORD])]


class LoginBody(RequestBody):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"username_or_email": "ada", "password": EXAMPLE_PASSWORD}]}
    )

    username_or_email: Name
    password: Password


@router.post(
    "/login",
    dependencies=[no_store],
    response_model=TokenPair,
    responses=problems(InvalidCredentials, EmailNotVerified, OriginRefused, TooManyFailures),
)
async def log_in(
    request: Request, body: LoginBody, client: RequestClient, components: AppComponents
) -> TokenPair | Response:
    """Exchange a name or an email address and a password for tokens."""
    cookie = components.session_cookie
    if cookie:
        cookie.check_origin(request)
    pair = await components.login_actions.log_in(Credentials(body.username_or_email, body.password), client)
    return cookie.response(pair) if cookie else pair


@router.post(
    "/token",
    dependencies=[no_store],
    response_model=TokenResponse,
    response_model_exclude_none=True,
    responses=problems(
        UnsupportedGrant,
        InvalidTokenRequest,
        InvalidGrant,
        InvalidCredentials,
        EmailNotVerified,
        OriginRefused,
        TooManyFailures,
    ),
    openapi_extra=OPENAPI,
)
async def issue_token(request: Request, client: RequestClient, components: AppComponents) -> TokenResponse | Response:
    """Log in, refresh, or exchange an API key, by a form of OAuth 2.

    The grant types are `password`, `refresh_token` and `client_credentials`. An API key gets an access token alone.
    """
    try:
        grant = await read_grant(request)
        cookie = components.session_cookie
        if cookie:
            # Any page may send a form, and so log a browser into an account of its own choice.
            cookie.check_origin(request)
        if isinstance(grant, ClientCredentialsGrant):
            key = KeyCredentials(grant.client_id, grant.client_secret)
            return await components.api_key_actions.exchange(key, grant.scope, client.network)
        if isinstance(grant, PasswordGrant):
            pair = await components.login_actions.log_in(Credentials(grant.username, grant.password), client)
        else:
            pair = await components.session_actions.refresh(grant.refresh_token, client.network)
        return cookie.response(pair) if cookie else TokenResponse(**pair.model_dump())
    except RefreshRefused:
        raise InvalidGrant from None
    except InvalidClient as refusal:
        if has_basic_credentials(request):
            # RFC 6749, section 5.2: the scheme that the client has used.
            refusal.headers["WWW-Authenticate"] = 'Basic realm="API keys"'
        raise
