"""Bodies and answers of the account routes."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from user_service.accounts.rules import Role, check_username, normalize_display_name, normalize_email
from user_service.passwords.rules import MAX_INPUT_LENGTH, check_new_password

# The bounds keep the checks themselves cheap; what a field may be is in the rules.
Username = Annotated[str, Field(max_length=64), AfterValidator(check_username)]
Email = Annotated[str, Field(max_length=512), AfterValidator(normalize_email)]
DisplayName = Annotated[str, Field(max_length=512), AfterValidator(normalize_display_name)]
NewPassword = Annotated[str, Field(max_length=MAX_INPUT_LENGTH), AfterValidator(check_new_password)]


class Body(BaseModel):
    """A JSON body: unknown fields are refused, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Registration(Body):
    """A new account. Without a display name, the user name is shown."""

    username: Username
    email: Email
    password: NewPassword = Field(repr=False)
    display_name: DisplayName | None = None


def _drop_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class ProfileChange(Body):
    """The fields to change. Those that are left out stay, and none can be null: so the defaults are never seen."""

    email: Email = Field(default="", json_schema_extra=_drop_default)
    display_name: DisplayName = Field(default="", json_schema_extra=_drop_default)


class RoleChange(Body):
    role: Role


class Account(BaseModel):
    """An account as its owner and administrators see it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: UUID
    username: str
    email: str
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
