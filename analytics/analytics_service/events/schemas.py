"""Events as they come and as they are answered."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from analytics_service.events.properties import MAX_BYTES, MAX_DEPTH, checked_properties
from analytics_service.timestamps import Moment

MAX_BATCH: Final = 1_000

EventId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9._:-]+$",
        description="The sender's own id: the same id of the same sender is counted once.",
    ),
]
EventType = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", examples=["page.view"])]
Properties = Annotated[
    dict[str, Any],
    AfterValidator(checked_properties),
    Field(description=f"At most {MAX_BYTES} bytes as JSON and {MAX_DEPTH} levels; no key begins with `$`."),
]


class EventIn(BaseModel):
    """One event."""

    model_config = ConfigDict(extra="forbid")

    event_id: EventId | None = None
    type: EventType
    occurred_at: Annotated[Moment | None, Field(description="From 30 days ago to 5 minutes ahead; now, if absent.")] = (
        None
    )
    user_id: Annotated[
        UUID | None,
        Field(description="Whom the event is about. Only services set it; a client's own is always its id."),
    ] = None
    properties: Properties = Field(default_factory=dict)


class BatchIn(BaseModel):
    """Up to 1,000 events, recorded together or not at all."""

    model_config = ConfigDict(extra="forbid")

    events: list[EventIn] = Field(min_length=1, max_length=MAX_BATCH)


def _shape(value: Any) -> str:
    return "batch" if isinstance(value, BatchIn) or (isinstance(value, dict) and "events" in value) else "event"


EventsBody = Annotated[Annotated[EventIn, Tag("event")] | Annotated[BatchIn, Tag("batch")], Discriminator(_shape)]
"""One event, or an object with a list of them. Which of the two was meant decides which errors are told."""


class Recorded(BaseModel):
    """How many events are new, and how many were there already (or twice in the batch)."""

    accepted: int
    duplicates: int


class EventOut(BaseModel):
    """One event as it was recorded. `sender` is a user's id or the name of a service."""

    event_id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    sender: str
    user_id: UUID | None
    properties: dict[str, Any]
