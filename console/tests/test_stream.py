"""What followers of the platform get, also those that are slow."""

from typing import Any

import orjson

from console.tests import senders
from console_service.intake.telemetry import Telemetry
from console_service.memory.budget import Budget
from console_service.otlp import json_format
from console_service.stream.feed import MAX_ITEMS, Feed, Snapshots


def take(telemetry: Telemetry, *lines: dict[str, Any]) -> None:
    for source, found in json_format.logs(senders.logs(*lines)):
        telemetry.take_logs(source, found)


def follow(telemetry: Telemetry, *topics: str) -> Feed:
    return Feed(telemetry, Snapshots({}, telemetry.now), frozenset(topics))


def events(feed: Feed) -> list[tuple[str, Any]]:
    found = []
    for each in feed.new_events():
        name, data = each.decode().removesuffix("\n\n").split("\n")
        found.append((name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))
    return found


def test_a_follower_gets_only_what_is_new_newest_first() -> None:
    telemetry = Telemetry(Budget.of(16))
    take(telemetry, senders.access("old"))
    feed = follow(telemetry, "requests", "logs")
    assert events(feed) == []
    take(telemetry, senders.access("a"), senders.line("one"), senders.access("b"))
    (requests, lines) = events(feed)
    assert [each["request_id"] for each in requests[1]["items"]] == ["b", "a"]
    assert [each["message"] for each in lines[1]["items"]] == [
        "GET /api/v1/notes 200", "one", "GET /api/v1/notes 200",
    ]  # fmt: skip
    assert events(feed) == []


def test_a_slow_follower_loses_the_oldest_and_learns_how_many() -> None:
    telemetry = Telemetry(Budget.of(16))
    feed = follow(telemetry, "requests", "logs")
    for number in range(MAX_ITEMS + 50):
        take(telemetry, senders.access(f"r-{number}"), senders.line(f"line {number}"))
    (_, requests), (_, lines) = events(feed)
    assert (len(requests["items"]), requests["skipped"]) == (MAX_ITEMS, 50)
    assert requests["items"][0]["request_id"] == f"r-{MAX_ITEMS + 49}"
    assert (len(lines["items"]), lines["skipped"]) == (MAX_ITEMS, MAX_ITEMS + 100)


def test_a_follower_that_missed_more_than_is_kept_gets_what_is_kept() -> None:
    telemetry = Telemetry(Budget(requests=200_000, logs=200_000, spans=200_000, figures=200_000))
    feed = follow(telemetry, "requests")
    for number in range(3_000):
        take(telemetry, senders.access(f"r-{number}"))
    ((_, requests),) = events(feed)
    assert requests["skipped"] + len(requests["items"]) == 3_000


def test_all_followers_share_one_reading_of_a_state() -> None:
    telemetry = Telemetry(Budget.of(16))
    readings = []

    def read() -> int:
        readings.append(1)
        return len(readings)

    snapshots = Snapshots({"overview": (1.0, read)}, lambda: now)
    now = 100.0
    feeds = [Feed(telemetry, snapshots, frozenset({"overview"})) for _ in range(20)]
    assert [events(feed) for feed in feeds] == [[("overview", 1)]] * 20
    assert events(feeds[0]) == []
    now = 101.5
    assert events(feeds[0]) == [("overview", 2)]
