"""`POST /api/v1/assets`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from assets_service.components import AppComponents
from assets_service.records.routes import PREFIX, WRITE
from assets_service.records.schemas import AssetOut
from assets_service.uploads.actions import QuotaExceeded
from assets_service.uploads.filenames import InvalidFilename
from assets_service.uploads.media_types import ACCEPTED_TYPES, TypeMismatch, UnsupportedType
from assets_service.uploads.request import MULTIPART, UploadBrokeOff, UploadStalled, open_upload
from servicekit.auth.access_tokens import CurrentUser
from servicekit.core.errors import UnsupportedMedia
from servicekit.idempotency import IdempotencyKey, IdempotentRequest, StoredResponse
from servicekit.web.openapi import problems

router = APIRouter(prefix=PREFIX, tags=["assets"])

_ACCEPTED: Final = ", ".join([MULTIPART, "application/octet-stream", *sorted(ACCEPTED_TYPES)])
# FastAPI never sees the body, so its two forms are described here.
_OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": (
            "A form with the field `file`, or the bytes themselves with the header X-Filename. Their Content-Type may "
            "also be their own; with `application/octet-stream` the service finds it out."
        ),
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "additionalProperties": False,
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "parameters": [
        {
            "name": "X-Filename",
            "in": "header",
            "required": False,
            "description": "The name of a file that is sent as it is: percent-encoded UTF-8, 1 to 255 characters.",
            # No lengths: they would count the escapes, and would apply to forms, which bring their own name.
            "schema": {"type": "string", "examples": ["caf%C3%A9.txt"]},
        }
    ],
}


@router.post(
    "",
    status_code=201,
    response_model=AssetOut,
    responses=problems(UploadBrokeOff, UploadStalled, QuotaExceeded, UnsupportedType, TypeMismatch, InvalidFilename),
    openapi_extra=_OPENAPI,
    dependencies=[WRITE],
)
async def upload_asset(request: Request, user: CurrentUser, key: IdempotencyKey, components: AppComponents) -> Response:
    """Store a file: PNG, JPEG, GIF, WebP, PDF, plain text, MP4, MP3 or ZIP, as its own bytes say.

    413 for a file that is too large or exceeds your quota; 415 for another type, or if the declared type is not the
    file's.
    """
    actions = components.upload_actions

    async def identify(content: bytes) -> IdempotentRequest:
        return await key.scoped_to(user.id, content=content)

    with _naming_accepted_types():
        file = await open_upload(request, actions.limits.file)
        response = await actions.upload(user.id, file, identify, _created)
    return response.to_response()


@contextmanager
def _naming_accepted_types() -> Iterator[None]:
    """Add what is taken to the refusal of a type (RFC 9110, section 15.5.16)."""
    try:
        yield
    except UnsupportedMedia as error:
        if "Accept-Encoding" not in error.headers:
            error.headers["Accept"] = _ACCEPTED
        raise


def _created(asset: AssetOut) -> StoredResponse:
    return StoredResponse.json(asset, status=201, headers={"Location": f"{PREFIX}/{asset.id}", "ETag": asset.etag})
