"""Resetting a forgotten password."""

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from starlette.responses import Response

from servicekit.web.json_body import RequestBody
from servicekit.web.openapi import problems
from user_service.accounts.schemas import Email, NewPassword
from user_service.bodies import AccountRoute
from user_service.client import RequestClient
from user_service.components import AppComponents
from user_service.email_tokens.schemas import EXAMPLE_TOKEN, EmailTokenText
from user_service.passwords.rules import EXAMPLE_PASSWORD

router = APIRouter(prefix="/api/v1/users/password", tags=["login"], route_class=AccountRoute)


class ForgottenPassword(RequestBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ada@mail.dev"}]})

    email: Email


class PasswordReset(RequestBody):
    """The token of the mail, and the new password."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"token": EXAMPLE_TOKEN, "password": EXAMPLE_PASSWORD}]})

    token: EmailTokenText
    password: NewPassword = Field(repr=False)


@router.post("/forgot", status_code=202, response_class=Response)
async def request_password_reset(body: ForgottenPassword, client: RequestClient, components: AppComponents) -> Response:
    """Have a mail sent to the account with this address, if there is one. The response does not tell."""
    await components.password_reset_actions.request(body.email, client.network)
    return Response(status_code=202)


@router.post("/reset", status_code=204, responses=problems(400))
async def reset_password(body: PasswordReset, client: RequestClient, components: AppComponents) -> None:
    """Set a new password by the token of the mail. This revokes all sessions and API keys."""
    await components.password_reset_actions.reset(body.token, body.password, client.network)
