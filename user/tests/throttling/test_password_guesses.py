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


async def test_guesses_tell_neither_who_exists_nor_which_names_belong_together(replicas: Any) -> None:
    """Statuses, texts, and headers but for times and ids are those of names that do not exist."""
    ada = await replicas[0].sign_in()
    seen = []
    for first, second in (
        (ada.account["email"], ada.username),
        (ada.username, ada.account["email"].upper()),
        ("nobody@example.com", "nobody"),
        (ada.account["email"], "nobody-else"),
    ):
        seen.append([])
        for number, name in enumerate([first] * 11 + [second] * 11):
            response = await replicas[number % 2].log_in(name, WRONG, address=f"203.0.113.{len(seen)}")
            text = {**response.json(), "request_id": None}
            waits = 800 < int(response.headers.get("retry-after", 900)) <= 900
            seen[-1].append((response.status_code, text, waits, sorted(set(response.headers) - {"x-request-id"})))
    assert [status for status, *_ in seen[0]] == ([401] * 10 + [429]) * 2
    assert all(other == seen[0] for other in seen)


async def test_a_login_between_failures_begins_the_count_anew(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    statuses = []
    for password, times in (
        (WRONG, 9),
        (ada.password, 1),
        (WRONG, 1),
        (ada.password, 1),
        (WRONG, 9),
        (ada.password, 1),
    ):
        for number in range(times):
            response = await replicas[number % 2].log_in(f" {ada.username} ", password, address="203.0.113.9")
            statuses.append(response.status_code)
    assert statuses == [401] * 9 + [200, 401, 200] + [401] * 9 + [200]
