"""The assets service, as this service calls it."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from loguru import logger
from pydantic import BaseModel, ValidationError

from notes_service.notes.actions import AttachmentsNotChecked
from servicekit.dispatcher import CallPolicy, DispatchError, InvalidCall, PeerClient

ASSETS: Final = "assets"
OWNED_PATH: Final = "/internal/owned"

# A user waits for the note to be saved.
OWNED_POLICY: Final = CallPolicy(attempts=2, deadline=3.0, attempt_timeout=1.5, connect_timeout=0.5)


class _Owned(BaseModel):
    owned: list[UUID]


class AssetsService:
    """Fulfils `notes.actions.Assets`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def find_owned(self, user_id: UUID, asset_ids: Collection[UUID]) -> set[UUID]:
        body = {"user_id": str(user_id), "asset_ids": [str(asset_id) for asset_id in asset_ids]}
        try:
            response = await self._dispatcher.call(
                ASSETS,
                OWNED_PATH,
                method="POST",
                json=body,
                encrypted=True,
                # The call only reads, so it may be retried like a GET. The key allows the dispatcher to do so.
                idempotency_key=True,
                policy=OWNED_POLICY,
            )
            return set(_Owned.model_validate_json(response.body).owned)
        except (DispatchError, InvalidCall, ValidationError) as error:
            # The text of a validation error would quote the response.
            reason = "invalid response" if isinstance(error, ValidationError) else error
            logger.warning("attachments are not checked: {}", reason)
            raise AttachmentsNotChecked from error
