"""Invitations: administrators send them, and everybody with the token of one accepts it."""

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from starlette.responses import Response

from servicekit.auth.access_tokens import CurrentAdmin
from servicekit.web.json_body import RequestBody
from servicekit.web.openapi import problems
from servicekit.web.responses import json_response
from user_service.accounts.routes import PREFIX
from user_service.accounts.rules import Role
from user_service.accounts.schemas import Account, Email, NewPassword, Username
from user_service.bodies import AccountRoute
from user_service.components import AppComponents
from user_service.email_tokens.schemas import EXAMPLE_TOKEN, EmailTokenText
from user_service.passwords.rules import EXAMPLE_PASSWORD

router = APIRouter(prefix=f"{PREFIX}/invitations", route_class=AccountRoute)


class Invitation(RequestBody):
    """The address to invite, and the role of the account."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "grace@mail.dev", "role": "user"}]})

    email: Email
    role: Role


class Acceptance(RequestBody):
    """The token of the mail, and the new account."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"token": EXAMPLE_TOKEN, "username": "grace", "password": EXAMPLE_PASSWORD}]}
    )

    token: EmailTokenText
    username: Username
    password: NewPassword = Field(repr=False)


@router.post("", status_code=202, response_class=Response, tags=["administration"], responses=problems(403, 409))
async def invite(body: Invitation, _admin: CurrentAdmin, components: AppComponents) -> Response:
    """Send an invitation to this address. 409 if an account has it."""
    await components.invitation_actions.invite(body.email, body.role)
    return Response(status_code=202)


@router.post("/accept", status_code=201, tags=["accounts"], response_model=Account, responses=problems(400, 409))
async def accept_invitation(body: Acceptance, components: AppComponents) -> Response:
    """Create an account by the token of an invitation. Its address is verified."""
    account = await components.invitation_actions.accept(body.token, body.username, body.password)
    return json_response(account, status=201, headers={"Location": f"{PREFIX}/{account.id}"})
