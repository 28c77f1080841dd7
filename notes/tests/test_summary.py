"""What the console asks of this service."""

from typing import Any


async def test_the_summary_counts_notes_and_those_that_are_published(replica: Any) -> None:
    user = replica.user()
    for _ in range(3):
        note = await user.created()
    await user.publish(note["id"])

    response = await replica.service("console").call("GET", "/internal/summary")
    assert response.json() == {"counts": [{"name": "notes", "value": 3}, {"name": "published", "value": 1}]}


async def test_the_outbox_is_shown(replica: Any) -> None:
    response = await replica.service("console").call("GET", "/internal/outbox")
    assert response.json()["dead_letters"] == []
