"""Changing one's password."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, ConfigDict, Field

from servicekit.auth.access_tokens import CurrentUser
from servicekit.web.json_body import RequestBody
from servicekit.web.openapi import problems
from user_service.bodies import AccountRoute
from user_service.client import RequestClient
from user_service.components import AppComponents
from user_service.passwords.actions import PasswordChanged, WrongPassword
from user_service.passwords.rules import EXAMPLE_PASSWORD, MAX_INPUT_LENGTH, NEW_PASSWORD_SCHEMA, check_new_password
from user_service.throttling.failure_limits import TooManyFailures

router = APIRouter(prefix="/api/v1/users", tags=["profile"], route_class=AccountRoute)


class PasswordChange(RequestBody):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"current_password": EXAMPLE_PASSWORD, "new_password": f"{EXAMPLE_PASSWORD} staple"}]
        }
    )

    current_password: Annotated[str, Field(min_length=1, max_length=MAX_INPUT_LENGTH, repr=False)]
    new_password: Annotated[
        str,
        Field(max_length=MAX_INPUT_LENGTH, repr=False, json_schema_extra=NEW_PASSWORD_SCHEMA),
        AfterValidator(check_new_password),
    ]


@router.post("/password", status_code=204, responses=problems(WrongPassword, PasswordChanged, TooManyFailures))
async def change_password(
    body: PasswordChange, user: CurrentUser, client: RequestClient, components: AppComponents
) -> None:
    """Change the password and revoke all other sessions. 403 if the current password is wrong."""
    await components.password_actions.change(
        user.id, user.session_id, client.network, current=body.current_password, new=body.new_password
    )
