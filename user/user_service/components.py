"""The wiring between the routes and what they call."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from user_service.accounts.actions import AccountActions, RoleActions
from user_service.accounts.queries import AccountQueries
from user_service.api_keys.actions import ApiKeyActions
from user_service.api_keys.queries import ApiKeyQueries
from user_service.audit.store import AuditTrail
from user_service.emails.actions import EmailActions
from user_service.invitations.actions import InvitationActions
from user_service.invitations.queries import InvitationQueries
from user_service.logins.actions import LoginActions
from user_service.password_resets.actions import PasswordResetActions
from user_service.passwords.actions import PasswordActions
from user_service.sessions.actions import SessionActions
from user_service.sessions.cookie import SessionCookie
from user_service.sessions.queries import SessionQueries
from user_service.tokens.signing_keys import SigningKeys


@dataclass(frozen=True, slots=True)
class Components:
    """What the routes of this service call; `create_app` builds it once."""

    account_actions: AccountActions
    account_queries: AccountQueries
    role_actions: RoleActions
    api_key_actions: ApiKeyActions
    api_key_queries: ApiKeyQueries
    audit_trail: AuditTrail
    login_actions: LoginActions
    password_actions: PasswordActions
    password_reset_actions: PasswordResetActions
    email_actions: EmailActions
    invitation_actions: InvitationActions
    invitation_queries: InvitationQueries
    session_actions: SessionActions
    session_cookie: SessionCookie | None
    session_queries: SessionQueries
    signing_keys: SigningKeys


async def _components(request: Request) -> Components:
    components: Components = request.app.state.components
    return components


AppComponents = Annotated[Components, Depends(_components)]
