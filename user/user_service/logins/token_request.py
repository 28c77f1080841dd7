"""The request of the token endpoint (RFC 6749, sections 4.3.2, 4.4.2 and 6): a form, read as the RFC demands."""

import base64
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, get_args
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from servicekit.core.errors import BadRequest, UnsupportedMedia
from servicekit.web.body_limit import read_body
from user_service.api_keys.actions import InvalidClient
from user_service.bodies import MAX_BODY_BYTES
from user_service.passwords.rules import EXAMPLE_PASSWORD, MAX_INPUT_LENGTH
from user_service.sessions.schemas import EXAMPLE, RefreshTokenText

FORM: Final = "application/x-www-form-urlencoded"
# Parameters that we do not know are ignored, but not in any number.
MAX_PARAMETERS: Final = 50


class UnsupportedGrant(BadRequest):
    """The grant type is none of `password`, `refresh_token` and `client_credentials`."""

    type = "urn:baseplate:problem:unsupported-grant-type"
    extensions: ClassVar[Mapping[str, str]] = {"error": "`unsupported_grant_type` (RFC 6749, section 5.2)"}
    example: ClassVar[Mapping[str, Any]] = {"error": "unsupported_grant_type"}
    detail = "The grant types are `password`, `refresh_token` and `client_credentials`."

    def __init__(self) -> None:
        super().__init__(error="unsupported_grant_type")


class InvalidTokenRequest(BadRequest):
    """A parameter of the token request is missing, repeated or not acceptable."""

    type = "urn:baseplate:problem:invalid-token-request"
    extensions: ClassVar[Mapping[str, str]] = {"error": "`invalid_request` (RFC 6749, section 5.2)"}
    example: ClassVar[Mapping[str, Any]] = {"error": "invalid_request"}
    detail = "A parameter is missing, repeated or not acceptable."

    def __init__(self, detail: str) -> None:
        super().__init__(detail, error="invalid_request")


class InvalidGrant(BadRequest):
    """The refresh token of a token request is not valid."""

    type = "urn:baseplate:problem:invalid-grant"
    extensions: ClassVar[Mapping[str, str]] = {"error": "`invalid_grant` (RFC 6749, section 5.2)"}
    example: ClassVar[Mapping[str, Any]] = {"error": "invalid_grant"}
    detail = "The refresh token is not valid."

    def __init__(self) -> None:
        super().__init__(error="invalid_grant")


class PasswordGrant(BaseModel):
    """RFC 6749, section 4.3.2. The client has no credentials of its own."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={"examples": [{"grant_type": "password", "username": "ada", "password": EXAMPLE_PASSWORD}]},
    )

    grant_type: Literal["password"]
    username: Annotated[str, Field(min_length=1, max_length=512)]
    password: Annotated[str, Field(min_length=1, max_length=MAX_INPUT_LENGTH, repr=False)]


class RefreshGrant(BaseModel):
    """RFC 6749, section 6."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{"grant_type": "refresh_token", **EXAMPLE}]})

    grant_type: Literal["refresh_token"]
    refresh_token: RefreshTokenText = Field(repr=False)


class ClientCredentialsGrant(BaseModel):
    """RFC 6749, section 4.4.2: an API key. Its credentials may come by HTTP Basic; `scope` asks for less."""

    model_config = ConfigDict(frozen=True)

    grant_type: Literal["client_credentials"]
    client_id: Annotated[str, Field(min_length=1, max_length=64)]
    client_secret: Annotated[str, Field(min_length=1, max_length=512, repr=False)]
    scope: Annotated[str, Field(max_length=1024)] | None = None


Grant = PasswordGrant | RefreshGrant | ClientCredentialsGrant
_GRANTS: Final = ("password", "refresh_token", "client_credentials")
_GRANT: Final[TypeAdapter[Grant]] = TypeAdapter(Annotated[Grant, Field(discriminator="grant_type")])

OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {FORM: {"schema": {"oneOf": [grant.model_json_schema() for grant in get_args(Grant)]}}},
    }
}
"""What FastAPI cannot derive, because it does not read the form."""


async def read_grant(request: Request) -> Grant:
    """Return the grant in the body of a request.

    Only an API key has client credentials, so other grants ignore the Authorization header. Raises `UnsupportedMedia`,
    `PayloadTooLarge`, `InvalidTokenRequest`, `UnsupportedGrant` or `InvalidClient`.
    """
    try:
        body = await read_body(request, MAX_BODY_BYTES, (FORM,))
    except UnsupportedMedia as refusal:
        refusal.members["error"] = "invalid_request"
        raise
    parameters = _parameters(body)
    if "grant_type" not in parameters:
        raise InvalidTokenRequest("The parameter `grant_type` is missing.")
    if parameters["grant_type"] not in _GRANTS:
        raise UnsupportedGrant
    if parameters["grant_type"] == "client_credentials":
        parameters |= _basic_credentials(request, parameters)
        if not (parameters.get("client_id") and parameters.get("client_secret")):
            raise InvalidClient
    try:
        return _GRANT.validate_python(parameters)
    except ValidationError as error:
        names = sorted({str(fault["loc"][-1]) for fault in error.errors(include_url=False, include_input=False)})
        raise InvalidTokenRequest(f"Missing or not acceptable: {', '.join(names)}.") from None


def has_basic_credentials(request: Request) -> bool:
    """Tell whether the client authenticates by HTTP Basic (RFC 7617)."""
    return request.headers.get("authorization", "").lower().startswith("basic ")


def _basic_credentials(request: Request, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the client credentials in the Authorization header, encoded by RFC 6749, section 2.3.1."""
    if not has_basic_credentials(request):
        return {}
    if parameters.keys() & {"client_id", "client_secret"}:
        raise InvalidTokenRequest("The client credentials must be sent in one place.")
    try:
        encoded = request.headers["authorization"].split(maxsplit=1)[1]
        client_id, _, client_secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (ValueError, IndexError):
        raise InvalidClient from None
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(client_secret)}


def _parameters(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise InvalidTokenRequest("The body is not a form in UTF-8.") from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise InvalidTokenRequest("A parameter must not be repeated.")
    # A parameter without a value counts as left out (RFC 6749, section 3.1).
    return {name: value for name, value in parameters.items() if value}
