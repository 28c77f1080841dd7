"""Requests and responses of the routes of invitations."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from servicekit.web.json_body import RequestBody
from user_service.accounts.rules import Role
from user_service.accounts.schemas import Email, NewPassword, Username
from user_service.email_tokens.schemas import EXAMPLE_TOKEN, EmailTokenText
from user_service.passwords.rules import EXAMPLE_PASSWORD


class Invitation(RequestBody):
    """The address to invite, and the role of the account."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "grace@mail.dev", "role": "user"}]})

    email: Email
    role: Role


class InvitationView(BaseModel):
    """An invitation that can be accepted until it expires."""

    id: UUID
    email: str
    role: Role
    expires_at: datetime


class Acceptance(RequestBody):
    """The token of the mail, and the new account."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"token": EXAMPLE_TOKEN, "username": "grace", "password": EXAMPLE_PASSWORD}]}
    )

    token: EmailTokenText
    username: Username
    password: NewPassword = Field(repr=False)
