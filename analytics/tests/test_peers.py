"""The number of accounts, as the user service tells it. The dispatcher is a fake."""

import asyncio
from typing import Any

import pytest

from analytics_service import peers
from analytics_service.peers import COUNT_PATH, UserService
from analytics_service.statistics.queries import UserCountUnavailable
from servicekit.core import context
from servicekit.dispatcher import (
    CircuitOpen,
    DispatchError,
    PeerResponse,
    PeerTimeout,
    PeerUnreachable,
    ResponseRejected,
)
from servicekit.testing.dispatch import FakeDispatcher
from servicekit.testing.scripted_transport import ManualClock

INVALID = "the user service gave an invalid response"


async def test_the_count_comes_from_a_sealed_call() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("user", COUNT_PATH, json={"count": 17})

    assert await UserService(dispatcher).count() == 17
    assert [call.encrypted for call in dispatcher.calls] == [True]


@pytest.mark.parametrize("body", [{"count": "many"}, {"count": None}, {"count": True}, {}, [], None])
async def test_an_invalid_response_is_no_count(body: Any) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("user", COUNT_PATH, json=body)

    with pytest.raises(UserCountUnavailable, match=INVALID):
        await UserService(dispatcher).count()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PeerUnreachable("user", "refused"), "the user service is unavailable"),
        (CircuitOpen("user", "open"), "the user service is unavailable"),
        (PeerTimeout("user", "slow"), "the user service does not answer in time"),
        (ResponseRejected("user", "not sealed"), INVALID),
    ],
)
async def test_a_failed_call_says_why(error: DispatchError, reason: str) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("user", COUNT_PATH, error)

    with pytest.raises(UserCountUnavailable, match=reason):
        await UserService(dispatcher).count()


@pytest.fixture
def _one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "COUNT_SECONDS", 1.0)


@pytest.mark.usefixtures("_one_second")
async def test_a_count_serves_for_a_second() -> None:
    dispatcher, clock = FakeDispatcher(), ManualClock()
    for count in (1, 2):
        dispatcher.will_return("user", COUNT_PATH, json={"count": count})
    users = UserService(dispatcher, clock=clock)

    assert [await users.count(), await users.count()] == [1, 1]
    clock.now += 0.999
    assert await users.count() == 1
    clock.now += 0.001
    assert await users.count() == 2
    assert len(dispatcher.calls) == 2


@pytest.mark.usefixtures("_one_second")
async def test_a_failure_is_not_kept() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("user", COUNT_PATH, PeerUnreachable("user", "refused"))
    dispatcher.will_return("user", COUNT_PATH, json={"count": 2})
    users = UserService(dispatcher, clock=ManualClock())

    with pytest.raises(UserCountUnavailable):
        await users.count()
    assert await users.count() == 2


class SlowDispatcher(FakeDispatcher):
    """Holds each call until `go_on` is set, and notes the deadline under which it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.deadlines: list[float | None] = []

    async def call(self, *arguments: Any, **options: Any) -> PeerResponse:
        request = context.current()
        self.deadlines.append(request.deadline if request else None)
        await self.go_on.wait()
        return await super().call(*arguments, **options)


async def test_requests_at_once_share_one_call_which_outlives_the_one_that_began_it() -> None:
    dispatcher = SlowDispatcher()
    dispatcher.will_return("user", COUNT_PATH, json={"count": 17})
    users = UserService(dispatcher)
    first, *others = [asyncio.create_task(users.count()) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    dispatcher.go_on.set()

    assert await asyncio.gather(*others) == [17, 17]
    assert first.cancelled()
    assert len(dispatcher.calls) == 1


async def test_the_shared_call_has_the_deadline_of_no_request() -> None:
    dispatcher = SlowDispatcher()
    dispatcher.go_on.set()
    dispatcher.will_return("user", COUNT_PATH, json={"count": 17})
    token = context.enter(context.RequestContext(request_id="r", correlation_id="c", deadline=0.001))
    try:
        assert await UserService(dispatcher).count() == 17
        assert context.current().deadline == 0.001  # type: ignore[union-attr]
    finally:
        context.leave(token)
    assert dispatcher.deadlines == [None]
