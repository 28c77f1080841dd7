"""Events in, statistics out."""

import secrets
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from local_platform.demo.tour import Visit

ANALYTICS = "/api/v1/analytics"
MINUTES = 60
# How many events each minute gets: a wave, so that there is something to look at.
WAVE = (1, 2, 3, 5, 8, 5, 3, 2)


def record_events(visit: Visit) -> None:
    """Send an hour of events at once, twice, and read them back as counts per minute."""
    kind = f"demo.{secrets.token_hex(4)}"
    now = datetime.now(UTC)
    counts = [WAVE[minute % len(WAVE)] for minute in range(MINUTES)]
    events = [
        {"type": kind, "occurred_at": (now - timedelta(minutes=MINUTES - 1 - minute)).isoformat()}
        for minute, count in enumerate(counts)
        for _ in range(count)
    ]
    headers = {**visit.signed_in, "Idempotency-Key": str(uuid4())}
    first = visit.client.post(f"{ANALYTICS}/events", headers=headers, json={"events": events})
    visit.answered(f"POST /analytics/events takes {len(events)} events at once", first, 202)
    again = visit.client.post(f"{ANALYTICS}/events", headers=headers, json={"events": events})
    visit.claim(
        "sent again with its Idempotency-Key, the batch gets the first answer",
        (again.status_code, again.json()) == (202, first.json()),
        again.text,
    )

    query = {
        "type": kind,
        "interval": "minute",
        "since": (now - timedelta(minutes=MINUTES - 1)).isoformat(),
        "until": (now + timedelta(minutes=1)).isoformat(),
    }
    series = visit.client.get(f"{ANALYTICS}/stats/series", headers=visit.signed_in, params=query)
    points = visit.answered("GET /analytics/stats/series counts them per minute", series, 200).json()["items"]
    found = [point["count"] for point in points]
    visit.report.chart(found, first=points[0]["start"][11:16], last=points[-1]["start"][11:16])
    visit.claim(f"each of the {len(events)} once, at once", sum(found) == len(events), f"{sum(found)} in the series")

    stats = visit.client.get(f"{ANALYTICS}/stats", headers=visit.signed_in).json()
    visit.report.shown(
        events=stats["total"], users_with_events=stats["unique_users"], accounts=stats["user_count"] or "unknown"
    )
    visit.claim(
        "the number of accounts comes from the user service, by a sealed call",
        isinstance(stats["user_count"], int),
        stats["user_count_reason"],
    )
