"""The query that lists events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from pydantic import TypeAdapter

from analytics_service.events.schemas import EventOut
from servicekit.auth.access_tokens import Principal, RoleRequired
from servicekit.web.pagination import Instant, Page, cut_page, decode_cursor

Position = tuple[datetime, UUID]
_POSITION = TypeAdapter(tuple[Instant, UUID])


class ForeignEvents(RoleRequired):
    detail = "Only administrators see the events of other users."


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Selects events; None selects all. `since` is inclusive, `until` is not."""

    user_id: UUID | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class ListedEvents(Protocol):
    async def find_newest(self, wanted: EventFilter, after: Position | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return events, the newest first, beginning after a position."""


class EventQueries:
    """Lists events."""

    def __init__(self, events: ListedEvents) -> None:
        self._events = events

    async def page(self, wanted: EventFilter, cursor: str | None, limit: int) -> Page[EventOut]:
        """Return one page, the newest first. Raises `InvalidCursor`."""
        after = decode_cursor(cursor, _POSITION) if cursor else None
        found = await self._events.find_newest(wanted, after, limit + 1)
        page = cut_page(found, limit, position=lambda event: (event["occurred_at"], event["_id"]))
        return Page(items=[EventOut.model_validate(event) for event in page.items], next_cursor=page.next_cursor)


def visible_to(user: Principal, user_id: UUID | None) -> UUID | None:
    """Return the user whose events are listed when `user` asks for those of `user_id`; None stands for all users.

    Raises `ForeignEvents`.
    """
    if user.is_admin:
        return user_id
    if user_id not in (None, user.id):
        raise ForeignEvents
    return user.id
