"""What the console asks of this service."""

from typing import Any


async def test_the_summary_counts_events(replica: Any) -> None:
    console = replica.service("console")
    assert (await console.call("GET", "/internal/summary")).json() == {"counts": [{"name": "events", "value": 0}]}
    assert (await console.call("GET", "/internal/outbox")).json() == {"destinations": [], "dead_letters": []}
