"""Events in requests and responses."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag
from pydantic.config import JsonDict

from analytics_service.events.properties import MAX_BYTES, MAX_DEPTH, validate_properties
from servicekit.web.json_body import RequestBody
from servicekit.web.timestamps import Timestamp

MAX_BATCH: Final = 1_000

EventId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9._:-]+$",
        description="An id that is unique per sender: an event with a known id is a duplicate.",
    ),
]
EventType = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", examples=["page.view"])]
Properties = Annotated[
    dict[str, Any],
    AfterValidator(validate_properties),
    Field(description=f"At most {MAX_BYTES} bytes as JSON and {MAX_DEPTH} levels; no key begins with `$`."),
]


EXAMPLE: Final[JsonDict] = {"type": "page.view", "properties": {"path": "/home"}}


class EventIn(RequestBody):
    """One event."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    event_id: EventId | None = None
    type: EventType
    occurred_at: Annotated[
        Timestamp | None, Field(description="From 30 days ago to 5 minutes ahead; now, if absent.")
    ] = None
    user_id: Annotated[
        UUID | None,
        Field(description="The user whom the event is about. Only services set it."),
    ] = None
    properties: Properties = Field(default_factory=dict)


class BatchIn(RequestBody):
    """Up to 1,000 events, recorded together or not at all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [EXAMPLE]}]})

    events: Annotated[list[EventIn], FailFast()] = Field(min_length=1, max_length=MAX_BATCH)


def _kind(value: Any) -> str:
    return "batch" if isinstance(value, BatchIn) or (isinstance(value, dict) and "events" in value) else "event"


EventsBody = Annotated[Annotated[EventIn, Tag("event")] | Annotated[BatchIn, Tag("batch")], Discriminator(_kind)]
"""One event, or an object with a list of events. Validation errors are those of the kind that was sent."""


class Recorded(BaseModel):
    """The number of new events, and of duplicates of earlier events or within the batch."""

    accepted: int
    duplicates: int


class EventOut(BaseModel):
    """A recorded event. `sender` is the id of a user or the name of a service."""

    event_id: str
    type: str
    occurred_at: datetime
    received_at: datetime
    sender: str
    user_id: UUID | None
    properties: dict[str, Any]
