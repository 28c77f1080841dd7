"""The assets and user services, as this service calls them."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from loguru import logger
from pydantic import BaseModel, ValidationError

from notes_service.notes.actions import AttachmentsNotChecked
from notes_service.publishing.queries import AttachedFile
from notes_service.publishing.schemas import Author
from servicekit.core.recent_results import RecentResults
from servicekit.dispatcher import CallPolicy, DispatchError, InvalidCall, PeerClient, PeerRefused

ASSETS: Final = "assets"
OWNED_PATH: Final = "/internal/owned"
DESCRIBED_PATH: Final = "/internal/described"
USER: Final = "user"
ACCOUNTS_PATH: Final = "/internal/accounts"

# A user waits for the note to be saved.
OWNED_POLICY: Final = CallPolicy(attempts=2, deadline=3.0, attempt_timeout=1.5, connect_timeout=0.5)


# Readers of published notes do not wait long for what the note can be read without.
DETAIL_POLICY: Final = CallPolicy(attempts=2, deadline=1.0, attempt_timeout=0.6, connect_timeout=0.3)
# How long readers may see an author's former name, and a file that was deleted.
AUTHOR_SECONDS: Final = 30.0
FILES_SECONDS: Final = 2.0


class _Owned(BaseModel):
    owned: list[UUID]


class _Described(BaseModel):
    assets: list[AttachedFile]


class AssetsService:
    """Fulfils `notes.actions.Assets` and `publishing.queries.AttachedFiles`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher
        self._recent = RecentResults(self._describe, seconds=FILES_SECONDS)

    async def describe(self, user_id: UUID, asset_ids: Sequence[UUID]) -> Sequence[AttachedFile] | None:
        try:
            return await self._recent.get((user_id, tuple(asset_ids)))
        except (DispatchError, InvalidCall, ValidationError) as error:
            logger.warning("a published note without its attachments: {}", type(error).__name__)
            return None

    async def _describe(self, key: tuple[UUID, tuple[UUID, ...]]) -> Sequence[AttachedFile]:
        user_id, asset_ids = key
        response = await self._dispatcher.call(
            ASSETS,
            DESCRIBED_PATH,
            method="POST",
            json={"user_id": str(user_id), "asset_ids": [str(asset_id) for asset_id in asset_ids]},
            encrypted=True,
            idempotency_key=True,
            policy=DETAIL_POLICY,
        )
        return _Described.model_validate_json(response.body).assets

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


class UserService:
    """Fulfils `publishing.queries.Authors`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher
        self._recent = RecentResults(self._find, seconds=AUTHOR_SECONDS)

    async def find(self, user_id: UUID) -> Author | None:
        try:
            return await self._recent.get(user_id)
        except (DispatchError, InvalidCall, ValidationError) as error:
            logger.warning("a published note without its author: {}", type(error).__name__)
            return None

    async def _find(self, user_id: UUID) -> Author | None:
        try:
            response = await self._dispatcher.call(
                USER, f"{ACCOUNTS_PATH}/{user_id}", encrypted=True, policy=DETAIL_POLICY
            )
        except PeerRefused as error:
            if error.response.status == 404:
                return None
            raise
        return Author.model_validate_json(response.body)
