"""The limits on wrong passwords over HTTP and over replicas. logins/test_actions.py has the decisions."""

import asyncio
from collections import Counter
from typing import Any

import pytest

WRONG = "a wrong password"


async def _guess(replica: Any, name: str, times: int, *, address: str = "203.0.113.9") -> Counter[int]:
    return Counter([(await replica.log_in(name, WRONG, address=address)).status_code for _ in range(times)])


@pytest.mark.parametrize("known", [True, False])
async def test_the_eleventh_wrong_password_from_one_address_is_refused_with_a_time_to_wait(
    replica: Any, known: bool
) -> None:
    name = (await replica.sign_in()).username if known else "nobody-of-this-name"

    assert await _guess(replica, name, 12) == {401: 10, 429: 2}
    refused = await replica.log_in(name, address="203.0.113.9")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 15 * 60
    assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("known", [True, False])
async def test_fifty_concurrent_guesses_over_two_replicas_reveal_ten_results(replicas: Any, known: bool) -> None:
    name = (await replicas[0].sign_in()).username if known else "nobody-of-this-name"

    responses = await asyncio.gather(
        *(replicas[number % 2].log_in(name, WRONG, address="203.0.113.9") for number in range(50))
    )

    assert Counter(response.status_code for response in responses) == {401: 10, 429: 40}


async def test_any_number_of_concurrent_right_passwords_passes(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    await _guess(replicas[0], ada.username, 9, address="192.0.2.1")

    responses = await asyncio.gather(*(replicas[number % 2].log_in(ada.username) for number in range(24)))

    assert {response.status_code for response in responses} == {200}


async def test_a_client_cannot_choose_the_address_that_it_is_counted_by(deployment: Any, valkey_url: str) -> None:
    async with deployment.replica(gateway_networks=()) as replica:
        outcomes = Counter[int]()
        for number in range(12):
            outcomes += await _guess(replica, "nobody-of-this-name", 1, address=f"203.0.113.{number}")
    assert outcomes == {401: 10, 429: 2}


async def test_guesses_are_limited_while_valkey_is_unavailable(deployment: Any, valkey_url: str, stores: Any) -> None:
    async with deployment.replica() as replica:
        await stores.stop("valkey")
        try:
            assert await _guess(replica, "nobody-of-this-name", 12) == {401: 10, 429: 2}
            ada = await replica.sign_in()
            assert (await replica.profile(ada)).status_code == 200
        finally:
            await stores.start("valkey")
