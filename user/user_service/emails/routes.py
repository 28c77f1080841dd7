"""Verifying and changing one's email address."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from starlette.responses import Response

from servicekit.auth.access_tokens import CurrentUser, UncheckedUser
from servicekit.web.json_body import RequestBody
from servicekit.web.openapi import problems
from user_service.accounts.schemas import Email
from user_service.bodies import AccountRoute
from user_service.client import RequestClient
from user_service.components import AppComponents
from user_service.email_tokens.schemas import EXAMPLE_TOKEN, EmailTokenText
from user_service.passwords.rules import EXAMPLE_PASSWORD, MAX_INPUT_LENGTH

router = APIRouter(prefix="/api/v1/users", tags=["profile"], route_class=AccountRoute)


class VerificationRequest(RequestBody):
    """The address to verify; by default that of the signed-in account."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ada@mail.dev"}]})

    email: Email | None = None


class Confirmation(RequestBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"token": EXAMPLE_TOKEN}]})

    token: EmailTokenText


class EmailChange(RequestBody):
    """The new address, and the password of the account."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@mail.example", "password": EXAMPLE_PASSWORD}]}
    )

    email: Email
    password: Annotated[str, Field(min_length=1, max_length=MAX_INPUT_LENGTH, repr=False)]


@router.post("/verification", status_code=202, response_class=Response, responses=problems(401))
async def request_verification(
    user: UncheckedUser, client: RequestClient, components: AppComponents, body: VerificationRequest | None = None
) -> Response:
    """Have the verification mail sent again, if an account has this address and has not verified it.

    The response does not tell whether there is one. With an address in the body, no access token is needed.
    """
    if body is not None and body.email is not None:
        await components.email_actions.request_verification(body.email, client.network)
    else:
        await components.email_actions.request_own_verification(user.require().id, client.network)
    return Response(status_code=202)


@router.post("/verification/confirm", status_code=204, responses=problems(400, 409))
async def confirm_email(body: Confirmation, components: AppComponents) -> None:
    """Verify an address, or complete its change, by the token of the mail."""
    await components.email_actions.confirm(body.token)


@router.post("/email", status_code=202, response_class=Response, responses=problems(403))
async def change_email(
    body: EmailChange, user: CurrentUser, client: RequestClient, components: AppComponents
) -> Response:
    """Ask for another address. It changes when the token of the mail to the new address is confirmed.

    The old address is told. The response does not tell whether another account has the new one.
    """
    await components.email_actions.change(user.id, body.email, body.password, client.network)
    return Response(status_code=202)
