"""What this service asks of the assets service, and what it tells the analytics service."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from loguru import logger
from pydantic import BaseModel, ValidationError

from notes_service.notes.actions import AttachmentsNotChecked
from servicekit.dispatcher import CallPolicy, DispatchError, InvalidCall, PeerClient
from servicekit.outbox import Subscription, Subscriptions, as_analytics_event

ASSETS: Final = "assets"
OWNED_PATH: Final = "/internal/owned"

# Somebody waits for the note to be saved.
OWNED_POLICY: Final = CallPolicy(attempts=2, deadline=3.0, attempt_timeout=1.5, connect_timeout=0.5)

NOTE_CREATED: Final = "note.created"
SUBSCRIPTIONS: Final = Subscriptions(
    {NOTE_CREATED: [Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)]}
)
"""Who hears of what happens here."""


class _Owned(BaseModel):
    owned: list[UUID]


class AssetsService:
    """The assets service, as far as this one needs it."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def owned(self, user_id: UUID, asset_ids: Collection[UUID]) -> set[UUID]:
        """Return those of the assets that the user has. Raises `AttachmentsNotChecked`."""
        body = {"user_id": str(user_id), "asset_ids": [str(asset_id) for asset_id in asset_ids]}
        try:
            answer = await self._dispatcher.call(
                ASSETS,
                OWNED_PATH,
                method="POST",
                json=body,
                encrypted=True,
                # It only looks, so it may be repeated like a GET; the key is what says so.
                idempotency_key=True,
                policy=OWNED_POLICY,
            )
            return set(_Owned.model_validate_json(answer.body).owned)
        except (DispatchError, InvalidCall, ValidationError) as error:
            # The text of a validation error would quote the answer.
            logger.warning(
                "attachments are not checked: {}", "no usable answer" if isinstance(error, ValidationError) else error
            )
            raise AttachmentsNotChecked from error
