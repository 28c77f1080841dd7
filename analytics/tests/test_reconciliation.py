"""The check finds what is wrong with the rollups, the rebuild mends it, and neither minds events that arrive."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from analytics_service.check import differences, table
from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.reconciliation.fence import Guard, Superseded
from analytics_service.reconciliation.rebuilding import Rebuild
from analytics_service.rollups.event_types import Labels

Agreement = Callable[[], Awaitable[int]]


def _rebuild(database: Any) -> Rebuild:
    return Rebuild(database, Labels(database, RESERVED_EVENT_TYPES))


def _silent(_done: int, _days: int, _corrected: int) -> None: ...


async def _run(module: str, deployment: Any) -> tuple[int, str]:
    """Run one of the service's commands; return its exit code and its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"analytics_service.{module}"),
        env={**os.environ, "MONGO_URL": deployment.settings.mongo_url.get_secret_value()},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.fixture
async def filled(analytics: Any) -> Any:
    """A replica with events of several types, users, and days."""
    now = datetime.now(UTC)
    for _ in range(3):
        events = [
            {"type": f"t{number % 3}", "occurred_at": (now - timedelta(hours=7 * number)).isoformat()}
            for number in range(60)
        ]
        answer = await analytics.send(uuid7(), {"events": events})
        assert answer.status_code == 202, answer.text
    return analytics


async def test_the_check_is_content_with_what_ingest_has_written(filled: Any, deployment: Any) -> None:
    code, output = await _run("check", deployment)

    assert (code, output) == (0, "the rollups agree with the events\n")


@pytest.mark.parametrize("span", ["hour", "day", "month", "ever"])
async def test_the_check_finds_a_wrong_count_in_every_span(filled: Any, database: Any, span: str) -> None:
    rollup = await database["rollups"].find_one({"_id.span": span, "_id.label": "t1"})
    slot = next(iter(rollup["counts"]))
    await database["rollups"].update_one({"_id": rollup["_id"]}, {"$inc": {f"counts.{slot}": 1}})

    found, unseen = await differences(database)
    wrong = {(difference.cell.span, difference.cell.label) for difference in found}
    # A month that is wrong is what the totals are compared with.
    assert wrong == {(span, "t1")} | ({("ever", "t1")} if span == "month" else set())
    assert all(abs(difference.expected - difference.found) == 1 for difference in found)
    assert unseen == 0


async def test_the_commands_tell_what_is_wrong_and_mend_it(filled: Any, database: Any, deployment: Any) -> None:
    stats = await filled.stats()
    await database["rollups"].delete_many({"_id.label": "t2", "_id.span": "day"})
    await database["events"].delete_one({"type": "t0"})
    await database["seen_users"].delete_many({})

    code, output = await _run("check", deployment)
    assert code == 1
    assert output.startswith("interval  start")
    assert "3 users have events and are not counted" in output

    code, output = await _run("rebuild", deployment)
    assert code == 0, output
    assert "the rollups agree with the events" in output.splitlines()[-1]
    assert (await _run("check", deployment))[0] == 0
    mended = await filled.stats()
    assert mended["total"] == stats["total"] - 1
    assert mended["unique_users"] == 3


async def test_statistics_come_back_from_the_events_alone(filled: Any, database: Any, agreement: Agreement) -> None:
    stats, series = await filled.stats(), await filled.series(interval="day")
    for name in ("rollups", "seen_users"):
        await database[name].delete_many({})
    assert (await filled.stats())["total"] == 0

    await _rebuild(database).run(_silent)

    assert await agreement() == 180
    assert await filled.stats() == stats
    assert await filled.series(interval="day") == series


async def test_rollups_without_events_are_taken_back(filled: Any, database: Any, agreement: Agreement) -> None:
    await database["events"].delete_many({"type": "t0"})

    await _rebuild(database).run(_silent)

    assert await agreement() == 120
    assert (await filled.stats())["by_type"] == {"t1": 60, "t2": 60}


async def test_a_rebuild_counts_what_arrives_meanwhile_once(
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
        # A minute that is being written right now loses its counts, and gets them back.
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
        assert await differences(database) == ([], 0)
    checked.set()
    await asyncio.gather(*sending)


async def test_rebuilds_at_once_correct_nothing_twice(filled: Any, database: Any, agreement: Agreement) -> None:
    await database["rollups"].delete_many({})
    await database["seen_users"].delete_many({})

    ends = await asyncio.gather(*(_rebuild(database).run(_silent) for _ in range(4)), return_exceptions=True)

    assert all(isinstance(end, int | Superseded) for end in ends), ends
    assert sum(isinstance(end, int) for end in ends) >= 1
    assert await agreement() == 180


async def test_a_rebuild_stops_when_another_one_has_begun(filled: Any, database: Any, agreement: Agreement) -> None:
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
    # Broken off in the middle, begun again, and nothing counts twice.
    second = Guard(database)
    await second.begin()
    with pytest.raises(Superseded):
        await first._correct((await differences(database))[0])
    await _rebuild(database).run(_silent)

    assert await agreement() == 180


async def test_a_long_table_is_cut(filled: Any, database: Any) -> None:
    await database["rollups"].delete_many({})

    lines = table((await differences(database))[0]).splitlines()
    assert len(lines) == 52
    assert lines[0].split() == ["interval", "start", "type", "events", "rollups"]
    assert lines[-1].startswith("… and ")
