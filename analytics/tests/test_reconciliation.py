"""The check finds wrong counts and the rebuild corrects them, both while events arrive."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from analytics_service import check, rebuild
from analytics_service.check import find_differences, table
from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.free_types import free_types
from analytics_service.reconciliation.fence import RebuildFence, Superseded
from analytics_service.reconciliation.rebuilding import Rebuild
from analytics_service.rollups.event_types import ALLOWANCE, CACHE_SECONDS, EventTypes
from analytics_service.rollups.rules import OTHER

Agreement = Callable[[], Awaitable[int]]


def _rebuild(database: Any) -> Rebuild:
    return Rebuild(database, EventTypes(database, RESERVED_EVENT_TYPES))


def _silent(_done: int, _days: int, _corrected: int) -> None: ...


@pytest.fixture
async def filled(replica: Any) -> Any:
    """A replica with events of several types, users, and days."""
    now = datetime.now(UTC)
    for _ in range(3):
        events = [
            {"type": f"t{number % 3}", "occurred_at": (now - timedelta(hours=7 * number)).isoformat()}
            for number in range(60)
        ]
        response = await replica.send(uuid7(), {"events": events})
        assert response.status_code == 202, response.text
    return replica


async def test_rollups_agree_with_recorded_events(filled: Any, database: Any) -> None:
    assert await find_differences(database) == ([], 0)


@pytest.mark.parametrize("span", ["hour", "day", "month", "ever"])
async def test_the_check_finds_a_wrong_count_in_every_span(filled: Any, database: Any, span: str) -> None:
    rollup = await database["rollups"].find_one({"_id.span": span, "_id.label": "t1"})
    slot = next(iter(rollup["counts"]))
    await database["rollups"].update_one({"_id": rollup["_id"]}, {"$inc": {f"counts.{slot}": 1}})

    found, unseen = await find_differences(database)
    wrong = {(difference.cell.span, difference.cell.label) for difference in found}
    # The totals are compared with the months.
    assert wrong == {(span, "t1")} | ({("ever", "t1")} if span == "month" else set())
    assert all(abs(difference.expected - difference.found) == 1 for difference in found)
    assert unseen == 0


async def test_the_commands_report_wrong_counts_and_correct_them(
    filled: Any, database: Any, deployment: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGO_URL", deployment.settings.mongo_url.get_secret_value())
    stats = await filled.stats()
    await database["rollups"].delete_many({"_id.label": "t2", "_id.span": "day"})
    await database["events"].delete_one({"type": "t0"})
    await database["seen_users"].delete_many({})
    capsys.readouterr()

    assert await check.main() == 1
    output = capsys.readouterr().out
    assert output.startswith("interval  start")
    assert "3 users have events but are not counted" in output

    assert await rebuild.main() == 0
    assert "the rollups agree with the events" in capsys.readouterr().out.splitlines()[-1]
    # As an operator runs it.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "analytics_service.check"), stdout=asyncio.subprocess.PIPE
    )
    checked, _ = await process.communicate()
    assert (process.returncode, checked) == (0, b"the rollups agree with the events\n")
    corrected = await filled.stats()
    assert corrected["total"] == stats["total"] - 1
    assert corrected["unique_users"] == 3


async def test_statistics_are_restored_from_the_events(filled: Any, database: Any, agreement: Agreement) -> None:
    stats, series = await filled.stats(), await filled.series(interval="day")
    for name in ("rollups", "seen_users"):
        await database[name].delete_many({})
    assert (await filled.stats())["total"] == 0

    await _rebuild(database).run(_silent)

    assert await agreement() == 180
    assert await filled.stats() == stats
    assert await filled.series(interval="day") == series


async def test_rollups_without_events_are_removed(filled: Any, database: Any, agreement: Agreement) -> None:
    await database["events"].delete_many({"type": "t0"})

    await _rebuild(database).run(_silent)

    assert await agreement() == 120
    assert (await filled.stats())["by_type"] == {"t1": 60, "t2": 60}


async def test_events_that_arrive_during_a_rebuild_are_counted_once(
    replicas: Any, database: Any, batch: Callable[..., dict[str, Any]], agreement: Agreement
) -> None:
    rebuilt = asyncio.Event()

    async def ingest(number: int) -> int:
        accepted, user = 0, uuid7()
        while not rebuilt.is_set():
            accepted += (await replicas[number % 2].send(user, batch(20, type=f"t{number}"))).json()["accepted"]
        return accepted

    sending = [asyncio.create_task(ingest(number)) for number in range(4)]
    for _ in range(3):
        # The current minute loses its counts too, and they are restored.
        await database["rollups"].delete_many({"_id.span": {"$in": ["hour", "ever"]}})
        await _rebuild(database).run(_silent)
    rebuilt.set()
    accepted = sum(await asyncio.gather(*sending))

    assert accepted > 0
    assert (await replicas[0].stats())["total"] == await agreement() == accepted


async def test_the_check_sees_no_difference_while_events_arrive(
    replicas: Any, database: Any, batch: Callable[..., dict[str, Any]]
) -> None:
    checked = asyncio.Event()

    async def ingest(number: int) -> None:
        while not checked.is_set():
            await replicas[number % 2].send(uuid7(), batch(5))

    sending = [asyncio.create_task(ingest(number)) for number in range(4)]
    for _ in range(3):
        assert await find_differences(database) == ([], 0)
    checked.set()
    await asyncio.gather(*sending)


async def test_concurrent_rebuilds_correct_each_count_once(filled: Any, database: Any, agreement: Agreement) -> None:
    await database["rollups"].delete_many({})
    await database["seen_users"].delete_many({})

    ends = await asyncio.gather(*(_rebuild(database).run(_silent) for _ in range(4)), return_exceptions=True)

    assert all(isinstance(end, int | Superseded) for end in ends), ends
    assert sum(isinstance(end, int) for end in ends) >= 1
    assert await agreement() == 180


async def test_an_interrupted_rebuild_stops_when_another_has_begun(
    filled: Any, database: Any, agreement: Agreement
) -> None:
    await database["rollups"].delete_many({})
    days = 0

    def progress(_done: int, _days: int, _corrected: int) -> None:
        nonlocal days
        days += 1
        if days == 2:
            raise ConnectionAbortedError

    first = _rebuild(database)
    with pytest.raises(ConnectionAbortedError):
        await first.run(progress)
    # The first run was interrupted. After the second one nothing is counted twice.
    second = RebuildFence(database)
    await second.begin()
    with pytest.raises(Superseded):
        await first._correct((await find_differences(database))[0])
    await _rebuild(database).run(_silent)

    assert await agreement() == 180


async def test_a_long_table_is_truncated(filled: Any, database: Any) -> None:
    await database["rollups"].delete_many({})

    lines = table((await find_differences(database))[0]).splitlines()
    assert len(lines) == 52
    assert lines[0].split() == ["interval", "start", "type", "events", "rollups"]
    assert lines[-1].startswith("… and ")


async def test_rollups_agree_with_events_of_types_beyond_the_limit(
    replica: Any, database: Any, agreement: Agreement
) -> None:
    await database["event_types"].update_one({}, {"$set": {"names": [f"t{number}" for number in range(999)]}})
    events = [{"type": type_} for type_ in ("t1", "new.1", "new.2", "new.3", "new.3")]
    await replica.send(uuid7(), {"events": events})
    await replica.service("user").call("POST", "/api/v1/analytics/events", json={"type": "user.registered"})

    by_type = (await replica.stats())["by_type"]
    assert by_type.pop("t1") == by_type.pop("user.registered") == 1
    # One of the three new types got the last label.
    own = set(by_type) - {"(other)"}
    assert len(own) == 1
    assert sum(by_type.values()) == 4
    assert await agreement() == 6


async def test_one_request_does_not_use_up_the_labels(replica: Any, database: Any) -> None:
    await replica.send(uuid7(), {"events": [{"type": f"junk-{number}"} for number in range(1_000)]})
    await asyncio.gather(*(replica.send(uuid7(), {"type": "genuine"}) for _ in range(4)))

    by_type = (await replica.stats())["by_type"]
    assert by_type["genuine"] == 4
    assert (len(by_type), by_type[OTHER]) == (ALLOWANCE + 2, 1_000 - ALLOWANCE)
    assert await find_differences(database) == ([], 0)


async def test_an_allowance_holds_over_replicas(replicas: Any, database: Any) -> None:
    user = uuid7()
    batches = [{"events": [{"type": f"t{part}-{number}"} for number in range(40)]} for part in range(6)]

    await asyncio.gather(*(replicas[part % 2].send(user, batch) for part, batch in enumerate(batches)))

    by_type = (await replicas[0].stats())["by_type"]
    assert (len(by_type), by_type[OTHER]) == (ALLOWANCE + 1, 240 - ALLOWANCE)
    assert await find_differences(database) == ([], 0)


async def test_freed_labels_are_available_while_rollups_agree_with_events(replica: Any, database: Any) -> None:
    """Events keep arriving meanwhile. A freed type that is sent again has a label, and its earlier events have none."""
    sender = uuid7()
    await replica.send(sender, {"events": [{"type": f"junk-{number}"} for number in range(ALLOWANCE)]})
    await replica.send(uuid7(), {"events": [{"type": "genuine"} for _ in range(5)]})
    stop = asyncio.Event()

    async def keep_sending() -> int:
        sent = 0
        while not stop.is_set():
            assert (await replica.send(uuid7(), {"type": "junk-1"})).status_code == 202
            sent += 1
        return sent

    sending = asyncio.create_task(keep_sending())
    freed = await free_types(database, ["junk-*", "gen*"], fewer=5, settled_after=CACHE_SECONDS + 2)
    stop.set()
    sent = await sending
    await replica.send(sender, {"events": [{"type": "junk-2"}, {"type": "junk-3"}]})
    await replica.send(uuid7(), {"type": "junk-4"})

    assert set(freed) >= {"junk-0", "junk-2", "junk-49"}
    assert "genuine" not in freed
    stats = await replica.stats()
    assert stats["total"] == ALLOWANCE + 5 + sent + 3
    assert stats["by_type"]["genuine"] == 5
    # The sender's allowance stays used.
    assert stats["by_type"].keys() <= {"genuine", "junk-1", "junk-4", OTHER}
    assert stats["by_type"]["junk-4"] == 1
    await _rebuild(database).run(_silent)
    assert await find_differences(database) == ([], 0)
    assert (await replica.stats())["total"] == stats["total"]
