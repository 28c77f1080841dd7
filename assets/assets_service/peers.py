"""The notes service, as this service calls it."""

from typing import Final
from uuid import UUID

from loguru import logger
from pydantic import BaseModel, ValidationError

from servicekit.core.errors import ServiceUnavailable
from servicekit.core.recent_results import RecentResults
from servicekit.dispatcher import CallPolicy, DispatchError, InvalidCall, PeerClient

NOTES: Final = "notes"
PUBLISHED_PATH: Final = "/internal/published"
# A reader waits for the content.
PUBLISHED_POLICY: Final = CallPolicy(attempts=2, deadline=3.0, attempt_timeout=1.5, connect_timeout=0.5)
# As long as the gateway keeps the page of a note.
PUBLISHED_SECONDS: Final = 2.0


class PublicationsUnavailable(ServiceUnavailable):
    detail = "Whether a published note has this file cannot be checked now. Try again."


class _Published(BaseModel):
    published: bool


class NotesService:
    """Tells which files published notes have. A result is at most two seconds old."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher
        self._recent = RecentResults(self._ask, seconds=PUBLISHED_SECONDS)

    async def has_published(self, slug: str, asset_id: UUID) -> bool:
        """Return whether the note that is published under this slug has this file. Raises `PublicationsUnavailable`."""
        return await self._recent.get((slug, asset_id))

    async def _ask(self, key: tuple[str, UUID]) -> bool:
        slug, asset_id = key
        try:
            response = await self._dispatcher.call(
                NOTES,
                PUBLISHED_PATH,
                method="POST",
                json={"slug": slug, "asset_id": str(asset_id)},
                encrypted=True,
                # The call only reads, so it may be retried like a GET. The key allows the dispatcher to do so.
                idempotency_key=True,
                policy=PUBLISHED_POLICY,
            )
            return _Published.model_validate_json(response.body).published
        except (DispatchError, InvalidCall, ValidationError) as error:
            # The text of a validation error would quote the response.
            reason = "invalid response" if isinstance(error, ValidationError) else error
            logger.warning("a publication is not checked: {}", reason)
            raise PublicationsUnavailable from error
