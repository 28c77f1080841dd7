"""The number of accounts, as the user service tells it. The dispatcher is a fake."""

from typing import Any

import pytest

from analytics_service.peers import COUNT_PATH, UserService
from analytics_service.statistics.queries import UserCountUnavailable
from servicekit.dispatcher import CircuitOpen, DispatchError, PeerTimeout, PeerUnreachable, ResponseRejected
from servicekit.testing.dispatch import FakeDispatcher

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
