"""`POST /api/v1/assets`."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from assets_service.records.routes import PREFIX
from assets_service.records.schemas import AssetOut
from assets_service.uploads.actions import UploadActions
from assets_service.uploads.documentation import REQUEST_BODY
from assets_service.uploads.request import open_upload
from servicekit.auth.access_tokens import CurrentUser
from servicekit.idempotency import IdempotencyKey, IdempotentRequest, StoredResponse
from servicekit.web.dependencies import provided
from servicekit.web.openapi import problems

router = APIRouter(prefix=PREFIX, tags=["assets"])


def _created(asset: AssetOut) -> StoredResponse:
    return StoredResponse.json(asset, status=201, headers={"Location": f"{PREFIX}/{asset.id}", "ETag": asset.etag})


@router.post("", status_code=201, response_model=AssetOut, responses=problems(415), openapi_extra=REQUEST_BODY)
async def upload_asset(
    request: Request,
    user: CurrentUser,
    key: IdempotencyKey,
    actions: Annotated[UploadActions, provided("upload_actions")],
) -> Response:
    """Store a file: PNG, JPEG, GIF, WebP, PDF, plain text, MP4, MP3 or ZIP, as its own bytes say.

    413 for one that is too large, or too much for your quota; 415 for another type, or for one that is declared as
    something else than it is.
    """

    async def attempt_of(content: bytes) -> IdempotentRequest:
        return await key.scoped_to(user.id, content=content)

    file = await open_upload(request, actions.limits.file)
    answer = await actions.upload(user.id, file, attempt_of, _created)
    return answer.to_response()
