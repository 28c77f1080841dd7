"""A response that can be stored, and sent again to a repeated request."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import orjson
from pydantic import BaseModel
from starlette.responses import Response

REPLAYED_HEADER = "Idempotency-Replayed"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """Status, headers and body of a response. They are stored in plain text, so they contain no secrets."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    replayed: bool = False

    @classmethod
    def json(
        cls, content: BaseModel | Mapping[str, Any], *, status: int = 201, headers: Mapping[str, str] | None = None
    ) -> Self:
        """Return a response with a JSON body, from a model or from what orjson can write."""
        if isinstance(content, BaseModel):
            body = content.model_dump_json().encode()
        else:
            body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
        return cls(status, body, (("Content-Type", JSON), *(headers or {}).items()))

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx. Only such responses are stored."""
        return 200 <= self.status < 300

    def as_replay(self) -> Self:
        return replace(self, replayed=True)

    def to_response(self) -> Response:
        """Return the HTTP response, with a header that marks a replay."""
        response = Response(self.body, self.status, dict(self.headers))
        if self.replayed:
            response.headers[REPLAYED_HEADER] = "true"
        return response
