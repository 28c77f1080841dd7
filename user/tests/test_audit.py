"""The audit trail: entries of the console that nothing but their own end changes."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from loguru import logger
from uuid_utils.compat import uuid7

PATH = "/internal/audit"


def _entry(**fields: Any) -> dict[str, Any]:
    return {
        "id": str(uuid7()),
        "actor_id": str(uuid7()),
        "actor": "ada",
        "action": "user.erase",
        "target": "grace",
        "outcome": "started",
        **fields,
    }


async def _record(replica: Any, entry: dict[str, Any]) -> int:
    return int((await replica.service("console").call("POST", PATH, json=entry)).status)


async def _read(replica: Any, query: str = "") -> list[dict[str, Any]]:
    response = await replica.service("console").call("GET", PATH + query)
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def _stored(replica: Any, entry: dict[str, Any]) -> dict[str, Any]:
    (found,) = [item for item in await _read(replica) if item["id"] == entry["id"]]
    return found


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The fields of each line `audit` that is logged meanwhile."""
    kept: list[dict[str, Any]] = []
    number = logger.add(
        lambda message: kept.append(message.record["extra"]), filter=lambda record: record["message"] == "audit"
    )
    yield kept
    logger.remove(number)


async def test_an_entry_is_kept_as_it_was_sent(replica: Any) -> None:
    entry = _entry(detail="by the page")
    assert await _record(replica, entry) == 204

    stored = await _stored(replica, entry)
    assert stored.pop("at")
    assert stored == entry


async def test_the_end_of_an_action_replaces_its_start_once(replica: Any, lines: list[dict[str, Any]]) -> None:
    entry = _entry()
    for outcome in ("started", "started", "failed", "done", "started"):
        assert await _record(replica, {**entry, "outcome": outcome, "detail": outcome}) == 204

    stored = await _stored(replica, entry)
    assert (stored["outcome"], stored["detail"]) == ("failed", "failed")
    assert [(line["audit_outcome"], line["audit_actor"]) for line in lines if line["audit_id"] == entry["id"]] == [
        ("started", "ada"),
        ("failed", "ada"),
    ]


async def test_nothing_but_the_outcome_changes(replica: Any) -> None:
    entry = _entry()
    await _record(replica, entry)
    await _record(replica, {**entry, "outcome": "done", "actor": "eve", "target": "nobody", "action": "none"})

    stored = await _stored(replica, entry)
    assert (stored["outcome"], stored["actor"], stored["target"]) == ("done", "ada", "grace")


async def test_of_two_ends_at_the_same_time_one_stays(replica: Any, lines: list[dict[str, Any]]) -> None:
    entry = _entry()
    await _record(replica, entry)
    ends = ["done", "failed"] * 4
    await asyncio.gather(*(_record(replica, {**entry, "outcome": end, "detail": end}) for end in ends))

    stored = await _stored(replica, entry)
    assert stored["outcome"] == stored["detail"]
    assert len([line for line in lines if line["audit_id"] == entry["id"]]) == 2


async def test_pages_go_from_the_newest_entry_to_the_oldest(replica: Any) -> None:
    entries = [_entry() for _ in range(3)]
    for entry in entries:
        await _record(replica, entry)

    newest = await _read(replica, "?limit=2")
    older = await _read(replica, f"?limit=1&before={newest[-1]['id']}")
    assert [item["id"] for item in newest + older] == [entry["id"] for entry in reversed(entries)]


async def test_an_entry_outlives_the_account_of_its_actor(replica: Any) -> None:
    admin = await replica.sign_in_admin()
    entry = _entry(actor_id=admin.id, actor=admin.username)
    await _record(replica, entry)
    response = await replica.http.request(
        "DELETE", f"/api/v1/users/{admin.id}", headers=admin.headers, json={"password": admin.password}
    )
    assert response.status_code == 204, response.text

    assert (await _stored(replica, entry))["actor"] == admin.username


@pytest.mark.parametrize(
    "wrong",
    [{"id": str(UUID(int=0, version=4))}, {"outcome": "perhaps"}, {"actor": "x" * 1001}, {"more": 1}],
    ids=["random-id", "outcome", "long", "unknown"],
)
async def test_an_entry_that_is_none_is_refused(replica: Any, wrong: dict[str, Any]) -> None:
    assert await _record(replica, _entry(**wrong)) == 422


async def test_neither_a_client_nor_another_service_reaches_the_trail(replica: Any) -> None:
    admin = await replica.sign_in_admin()
    assert (await replica.http.get(PATH, headers=admin.headers)).status_code == 401
    assert (await replica.http.post(PATH, headers=admin.headers, json=_entry())).status_code == 401
    assert (await replica.service("notes").call("GET", PATH)).status == 403


async def test_the_summary_counts_accounts_and_sessions(replica: Any) -> None:
    async def counts() -> dict[str, int]:
        response = await replica.service("console").call("GET", "/internal/summary")
        return {count["name"]: count["value"] for count in response.json()["counts"]}

    before = await counts()
    await replica.sign_in()
    after = await counts()
    assert after.keys() == {"accounts", "sessions"}
    assert after["accounts"] > before["accounts"]
    assert after["sessions"] > before["sessions"]
