"""Requests and responses of the account routes."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from servicekit.web.json_body import RequestBody
from user_service.accounts.rules import (
    DISPLAY_NAME_LENGTH,
    EMAIL_LENGTH,
    USERNAME_LENGTH,
    USERNAME_PATTERN,
    Role,
    check_username,
    normalize_display_name,
    normalize_email,
)
from user_service.passwords.rules import EXAMPLE_PASSWORD, MAX_INPUT_LENGTH, NEW_PASSWORD_SCHEMA, check_new_password

# `max_length` keeps the checks cheap. What a field may hold is decided by the rules, which say more than a schema can.
# `json_schema_extra` documents as much of it as a schema can say.
Username = Annotated[
    str,
    Field(
        max_length=64,
        examples=["ada"],
        json_schema_extra={"minLength": 3, "maxLength": USERNAME_LENGTH, "pattern": USERNAME_PATTERN},
    ),
    AfterValidator(check_username),
]
Email = Annotated[
    str,
    Field(
        max_length=512,
        examples=["ada@mail.dev"],
        json_schema_extra={"format": "email", "minLength": 3, "maxLength": EMAIL_LENGTH},
    ),
    AfterValidator(normalize_email),
]
DisplayName = Annotated[
    str,
    Field(
        max_length=512,
        examples=["Ada Lovelace"],
        json_schema_extra={"minLength": 1, "maxLength": DISPLAY_NAME_LENGTH},
    ),
    AfterValidator(normalize_display_name),
]
NewPassword = Annotated[
    str,
    Field(max_length=MAX_INPUT_LENGTH, json_schema_extra=NEW_PASSWORD_SCHEMA),
    AfterValidator(check_new_password),
]


class Registration(RequestBody):
    """A new account. The display name defaults to the user name."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"username": "ada", "email": "ada@mail.dev", "password": EXAMPLE_PASSWORD}]}
    )

    username: Username
    email: Email
    password: NewPassword = Field(repr=False)
    display_name: DisplayName | None = None


class ProfileChange(RequestBody):
    """The fields to change. A missing field stays as it is; null is refused."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"display_name": "Ada Lovelace"}]})

    # The defaults are never used: `model_fields_set` tells which fields the request has.
    email: Email = Field(default_factory=str)
    display_name: DisplayName = Field(default_factory=str)


class RoleChange(RequestBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "user"}]})

    role: Role


class Account(BaseModel):
    """An account as its owner and administrators see it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: UUID
    username: str
    email: str
    email_verified: bool
    display_name: str
    role: Role
    created_at: datetime


class PublicAccount(BaseModel):
    """An account as other users see it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: UUID
    username: str
    display_name: str
    created_at: datetime


class AccountCount(BaseModel):
    count: int
