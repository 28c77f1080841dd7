"""Invitations: administrators send, list and withdraw them, and everybody with the token of one accepts it."""

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from servicekit.auth.access_tokens import CurrentAdmin
from servicekit.web.openapi import problems
from servicekit.web.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from servicekit.web.responses import json_response
from user_service.accounts.routes import PREFIX
from user_service.accounts.schemas import Account
from user_service.bodies import AccountRoute
from user_service.components import AppComponents
from user_service.invitations.schemas import Acceptance, Invitation, InvitationView

router = APIRouter(prefix=f"{PREFIX}/invitations", route_class=AccountRoute)


@router.post("", status_code=202, response_class=Response, tags=["administration"], responses=problems(403, 409))
async def invite(body: Invitation, _admin: CurrentAdmin, components: AppComponents) -> Response:
    """Send an invitation to this address. 409 if an account has it."""
    await components.invitation_actions.invite(body.email, body.role)
    return Response(status_code=202)


@router.get("", tags=["administration"], response_model=Page[InvitationView], responses=problems(403))
async def list_invitations(
    _admin: CurrentAdmin, components: AppComponents, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Response:
    """List the invitations that can be accepted, the newest first."""
    return json_response(await components.invitation_queries.page(limit, cursor))


@router.post("/accept", status_code=201, tags=["accounts"], response_model=Account, responses=problems(400, 409))
async def accept_invitation(body: Acceptance, components: AppComponents) -> Response:
    """Create an account by the token of an invitation. Its address is verified."""
    account = await components.invitation_actions.accept(body.token, body.username, body.password)
    return json_response(account, status=201, headers={"Location": f"{PREFIX}/{account.id}"})


# It matches `accept`, too, so it comes last.
@router.delete("/{invitation_id}", status_code=204, tags=["administration"], responses=problems(403))
async def withdraw_invitation(invitation_id: UUID, _admin: CurrentAdmin, components: AppComponents) -> None:
    """Withdraw an invitation: its token is refused at once, and a mail that still waits is not sent."""
    await components.invitation_actions.withdraw(invitation_id)
