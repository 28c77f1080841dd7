"""Responses whose content is a service's own."""

from collections.abc import Mapping

from pydantic import BaseModel
from starlette.responses import Response


def json_response(content: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return the JSON of a model from the service's own store.

    What a route returns, FastAPI validates once more. A response it sends as it is; declare its `response_model`.
    """
    return Response(content.model_dump_json(), status_code=status, headers=headers, media_type="application/json")
