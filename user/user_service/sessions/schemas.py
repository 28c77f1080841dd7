"""Requests and responses of the session routes."""

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from servicekit.web.json_body import RequestBody
from user_service.tokens.issuer import LIFETIME

RefreshTokenText = Annotated[str, Field(min_length=1, max_length=512)]


# A login returns a token that works.
EXAMPLE: Final[JsonDict] = {"refresh_token": "the refresh token of your login"}  # nosec B105


class RefreshBody(RequestBody):
    """The refresh token. With `SESSION_COOKIE=on` it may come as a cookie instead."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    refresh_token: RefreshTokenText | None = Field(default=None, repr=False)


class LogoutBody(RequestBody):
    """The refresh token of a session to revoke, for a client whose access token has expired."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    refresh_token: RefreshTokenText | None = Field(default=None, repr=False)


class TokenPair(BaseModel):
    """The response to a login or a refresh (RFC 6749, section 5.1). `expires_in` is in seconds."""

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = int(LIFETIME.total_seconds())


class TokenResponse(BaseModel):
    """The response of the token endpoint (RFC 6749, section 5.1).

    `refresh_token` comes with a login, `scope` with an API key.
    """

    access_token: str = Field(repr=False)
    refresh_token: str | None = Field(default=None, repr=False)
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = int(LIFETIME.total_seconds())
    scope: str | None = None


class SessionView(BaseModel):
    """A session as its owner sees it. `current` marks the session of the request's access token."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    address: str
    current: bool
