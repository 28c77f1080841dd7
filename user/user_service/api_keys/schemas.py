"""Requests and responses of the routes of API keys."""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field

from servicekit.auth.scopes import listed_scopes
from servicekit.core.text import normalize_visible
from servicekit.web.json_body import RequestBody
from servicekit.web.timestamps import Timestamp
from user_service.api_keys.rules import NAME_LENGTH

_SCOPES: Final = listed_scopes()


def _check_scopes(names: list[str]) -> list[str]:
    """Return the scopes in the order of the list, each once. Raises ValueError for one that is not listed."""
    if unknown := set(names) - set(_SCOPES):
        raise ValueError(f"no such scope: {min(unknown)!r}"[:100])
    return [name for name in _SCOPES if name in names]


Name = Annotated[
    str,
    Field(
        max_length=4 * NAME_LENGTH,
        examples=["nightly export"],
        json_schema_extra={"minLength": 1, "maxLength": NAME_LENGTH},
    ),
    AfterValidator(lambda text: normalize_visible(text, NAME_LENGTH)),
]
Scopes = Annotated[
    list[Annotated[str, Field(max_length=64, json_schema_extra={"enum": list(_SCOPES)})]],
    FailFast(),
    Field(min_length=1, max_length=len(_SCOPES), examples=[["users:read"]]),
    AfterValidator(_check_scopes),
]


class NewApiKey(RequestBody):
    """A new API key. Without `expires_at` it does not expire."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "nightly export", "scopes": ["users:read"]}]})

    name: Name
    scopes: Scopes
    expires_at: Timestamp | None = None


class ApiKeyView(BaseModel):
    """An API key as its owner sees it. `last_used_at` is up to a minute late, and null for an unused key."""

    id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class CreatedApiKey(ApiKeyView):
    """A new API key with its secret, which is never shown again."""

    secret: str = Field(repr=False)
