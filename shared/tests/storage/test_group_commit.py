"""Concurrent writes share a transaction, and none suffers from another. The store is a fake."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from servicekit.storage import group_commit
from servicekit.storage.group_commit import GroupCommit

# Ten letters are a large group.
MOST = 100
REQUEST: ContextVar[str] = ContextVar("request")


class Refused(Exception):
    """The error of one item."""


class Unavailable(Exception):
    """The error of the store."""


class Store:
    """Writes groups of texts when `open` is set. The text `bad` is refused; the text `fail` fails the whole group."""

    def __init__(self) -> None:
        self.groups: list[Sequence[str]] = []
        self.requests: list[str] = []
        self.open = asyncio.Event()
        self.commits: GroupCommit[str, str] = GroupCommit(
            self.write, weight=len, most=MOST, concerns_all=lambda error: isinstance(error, Unavailable)
        )

    async def write(self, items: Sequence[str]) -> Sequence[str]:
        self.groups.append(items)
        self.requests.append(REQUEST.get(""))
        await self.open.wait()
        if "fail" in items:
            raise Unavailable
        if "bad" in items:
            raise Refused
        return [item.upper() for item in items]

    def send(self, *items: str) -> list[asyncio.Task[str]]:
        return [asyncio.create_task(self.commits.run(item)) for item in items]


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(group_commit, "HOLD_SECONDS", 3600)
    return Store()


async def passes(number: int = 5) -> None:
    """Let all tasks go on that can."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_write_without_others_begins_at_once_and_later_ones_form_one_group(store: Store) -> None:
    first = store.send("a")
    await passes()
    assert store.groups == [["a"]]

    later = store.send("b", "c")
    await passes()
    assert store.groups == [["a"]]
    store.open.set()

    assert await asyncio.gather(*first, *later) == ["A", "B", "C"]
    assert store.groups == [["a"], ["b", "c"]]


async def test_a_group_has_a_bounded_weight_unless_it_is_one_item(store: Store) -> None:
    store.open.set()

    await asyncio.gather(*store.send("x" * 60, "y" * 40, "z", "w" * 110, "v"))

    assert store.groups == [["x" * 60, "y" * 40], ["z"], ["w" * 110], ["v"]]


async def test_a_large_group_begins_beside_one_other(store: Store) -> None:
    first = store.send("a")
    await passes()
    small, last = store.send("b" * 5), store.send("c" * 5)
    await passes()
    assert store.groups == [["a"], ["b" * 5, "c" * 5]]

    third = store.send("d" * 50)
    await passes()
    assert len(store.groups) == 2
    store.open.set()

    await asyncio.gather(*first, *small, *last, *third)
    assert store.groups[2:] == [["d" * 50]]


async def test_each_item_of_a_failed_group_is_written_by_itself(store: Store) -> None:
    store.open.set()

    first, bad, last = await asyncio.gather(*store.send("a", "bad", "c"), return_exceptions=True)

    assert (first, last) == ("A", "C")
    assert isinstance(bad, Refused)
    assert store.groups == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]


async def test_an_error_that_concerns_all_is_raised_for_all_without_further_tries(store: Store) -> None:
    store.open.set()

    results = await asyncio.gather(*store.send("a", "fail"), return_exceptions=True)

    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert store.groups == [["a", "fail"]]
    assert await store.commits.run("b") == "B"


async def test_a_cancelled_request_writes_nothing_before_its_turn_and_harms_no_other(store: Store) -> None:
    first, cancelled, last = store.send("a")[0], *store.send("b", "c")
    first_again = store.send("d")[0]
    await passes()
    first.cancel()
    waiting = store.send("e")[0]
    await passes()
    waiting.cancel()
    await passes()
    store.open.set()

    assert await asyncio.gather(cancelled, last, first_again) == ["B", "C", "D"]
    await passes()
    assert store.groups == [["a", "b", "c", "d"]]
    assert await store.commits.run("f") == "F"


async def test_a_group_that_takes_long_does_not_hold_up_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "HOLD_SECONDS", 0)
    store.send("a")
    await passes()
    later = store.send("b")
    async with asyncio.timeout(30):
        while len(store.groups) < 2:
            await asyncio.sleep(0)

    assert store.groups == [["a"], ["b"]]
    store.open.set()
    assert await asyncio.gather(*later) == ["B"]


async def test_a_group_is_written_in_the_context_of_its_first_request(store: Store) -> None:
    async def request(name: str) -> None:
        REQUEST.set(name)
        await store.commits.run(name)

    store.open.set()
    await asyncio.gather(request("one"), request("two"))
    await request("three")

    assert store.requests == ["one", "three"]
