"""What a request that records events must look like."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from analytics_service.events.schemas import BatchIn, EventIn, EventsBody

BODY: TypeAdapter[EventIn | BatchIn] = TypeAdapter(EventsBody)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "event",
        {},
        {"events": []},
        {"events": [{"type": "a"}] * 1001},
        {"events": [{"type": "a"}], "type": "a"},
        {"type": ""},
        {"type": "a" * 65},
        {"type": ".a"},
        {"type": "a b"},
        {"type": "a\n"},
        {"type": "a\0"},
        {"type": "é"},
        {"type": {"$gt": ""}},
        {"type": ["a"]},
        {"type": "a", "unknown": 1},
        {"type": "a", "_id": 1},
        {"type": "a", "sender": "user"},
        {"type": "a", "event_id": ""},
        {"type": "a", "event_id": "x" * 65},
        {"type": "a", "event_id": "x y"},
        {"type": "a", "event_id": "x\n"},
        {"type": "a", "event_id": {"$ne": None}},
        {"type": "a", "event_id": 7},
        {"type": "a", "occurred_at": "2026-03-01T12:00:00"},
        {"type": "a", "occurred_at": "2026-03-01"},
        {"type": "a", "occurred_at": 1772366400},
        {"type": "a", "occurred_at": "1772366400"},
        {"type": "a", "occurred_at": "0001-01-01T00:00:00+14:00"},
        {"type": "a", "occurred_at": "9999-12-31T23:59:59-14:00"},
        {"type": "a", "occurred_at": {"$date": "2026-03-01T12:00:00Z"}},
        {"type": "a", "properties": None},
        {"type": "a", "properties": []},
        {"type": "a", "properties": {"$where": "1"}},
        {"type": "a", "properties": {"nested": [{"$ref": "events", "$id": 1}]}},
        {"type": "a", "properties": {"a\0b": 1}},
        {"type": "a", "properties": {"big": 2**63}},
        {"type": "a", "properties": {"big": -(2**63) - 1}},
        {"type": "a", "properties": {"long": "x" * 8192}},
        {"type": "a", "properties": {"1": {"2": {"3": {"4": {"5": {"6": {"7": {"8": {}}}}}}}}}},
        {"type": "a", "properties": {"1": [[[[[[[[]]]]]]]]}},
    ],
)
def test_an_invalid_body_is_refused(body: Any) -> None:
    with pytest.raises(ValidationError):
        BODY.validate_python(body)


@pytest.mark.parametrize("number", [1, 1000])
def test_a_batch_has_up_to_1000_events(number: int) -> None:
    assert isinstance(BODY.validate_python({"events": [{"type": "a"}] * number}), BatchIn)
