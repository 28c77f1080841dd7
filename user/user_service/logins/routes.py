"""Login, as JSON and as the password form of OAuth 2."""

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import BaseModel, Field

from servicekit.core.errors import BadRequest
from servicekit.web.json_body import RequestBody
from servicekit.web.openapi import problems
from user_service.bodies import AccountRoute
from user_service.client import RequestClient
from user_service.components import AppComponents
from user_service.logins.actions import Credentials
from user_service.no_store import no_store
from user_service.passwords.rules import EXAMPLE_PASSWORD, MAX_INPUT_LENGTH
from user_service.sessions.schemas import TokenPair

router = APIRouter(prefix="/api/v1/users", tags=["login"], route_class=AccountRoute)

Name = Annotated[str, Field(min_length=1, max_length=512, examples=["ada"])]
Password = Annotated[str, Field(min_length=1, max_length=MAX_INPUT_LENGTH, repr=False, examples=[EXAMPLE_PASSWORD])]


class LoginBody(RequestBody):
    username_or_email: Name
    password: Password


class PasswordForm(BaseModel):
    """RFC 6749, section 4.3.2. Other fields are ignored, as the RFC demands."""

    username: Name
    password: Password
    grant_type: str = "password"


class UnsupportedGrant(BadRequest):
    """Another grant type; `error` is the code of RFC 6749, section 5.2."""

    detail = "The only grant type is `password`; refresh at /api/v1/users/refresh."

    def __init__(self) -> None:
        super().__init__(error="unsupported_grant_type")


@router.post("/login", dependencies=[no_store], responses=problems(401))
async def log_in(body: LoginBody, client: RequestClient, components: AppComponents) -> TokenPair:
    """Exchange a name or an email address and a password for tokens."""
    return await components.login_actions.log_in(Credentials(body.username_or_email, body.password), client)


@router.post("/token", dependencies=[no_store], responses=problems(401))
async def issue_token(
    form: Annotated[PasswordForm, Form()], client: RequestClient, components: AppComponents
) -> TokenPair:
    """Log in by the password form of OAuth 2."""
    if form.grant_type != "password":
        raise UnsupportedGrant
    return await components.login_actions.log_in(Credentials(form.username, form.password), client)
