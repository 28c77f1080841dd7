"""The limits on wrong passwords: exact, the same for unknown names, and no way to lock somebody out."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from prometheus_client import REGISTRY

from user_service.throttling import rules

API = "/api/v1/users"
WRONG = "a wrong password"


async def _guess(user: Any, name: str, times: int, *, address: str = "203.0.113.9") -> Counter[int]:
    return Counter([(await user.log_in(name, WRONG, address=address)).status_code for _ in range(times)])


@pytest.mark.parametrize("known", [True, False])
async def test_ten_wrong_passwords_from_one_address_are_answered_and_no_more(user: Any, known: bool) -> None:
    name = (await user.sign_in()).username if known else "nobody-of-this-name"

    assert await _guess(user, name, 12) == {401: 10, 429: 2}
    refused = await user.log_in(name, address="203.0.113.9")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 15 * 60
    assert refused.headers["content-type"] == "application/problem+json"


async def test_what_is_over_the_limit_costs_no_hash(user: Any) -> None:
    await _guess(user, "nobody-of-this-name", 10)
    before = REGISTRY.get_sample_value("service_password_hashes_total")

    assert await _guess(user, "nobody-of-this-name", 5) == {429: 5}

    assert REGISTRY.get_sample_value("service_password_hashes_total") == before


async def test_the_name_and_the_address_of_an_account_share_its_limit_in_any_case(user: Any) -> None:
    ada = await user.sign_in()

    outcomes = Counter[int]()
    for name in (ada.username, ada.username.upper(), ada.account["email"], ada.account["email"].upper()):
        outcomes += await _guess(user, name, 4)
    assert outcomes == {401: 10, 429: 6}


@pytest.mark.parametrize("known", [True, False])
async def test_fifty_guesses_at_once_over_two_replicas_learn_no_more_than_ten(replicas: Any, known: bool) -> None:
    name = (await replicas[0].sign_in()).username if known else "nobody-of-this-name"

    answers = await asyncio.gather(
        *(replicas[number % 2].log_in(name, WRONG, address="203.0.113.9") for number in range(50))
    )

    assert Counter(answer.status_code for answer in answers) == {401: 10, 429: 40}


async def test_right_passwords_at_once_all_pass_however_many(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    await _guess(replicas[0], ada.username, 9, address="192.0.2.1")

    answers = await asyncio.gather(*(replicas[number % 2].log_in(ada.username) for number in range(24)))

    assert {answer.status_code for answer in answers} == {200}


async def test_a_guesser_cannot_lock_the_owner_out(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PER_ACCOUNT", rules.FailureLimit("account", 30, 3600))
    ada = await user.sign_in()
    for number in range(5):
        await _guess(user, ada.username, 10, address=f"203.0.113.{number}")

    # The account's own limit is used up: no stranger may even try, the owner still may where he has logged in before.
    assert (await user.log_in(ada.username, address="203.0.113.77")).status_code == 429
    assert (await user.log_in(ada.username, address="192.0.2.1")).status_code == 200
    assert (await user.log_in(ada.username, WRONG, address="192.0.2.1")).status_code == 401


async def test_before_the_accounts_own_limit_the_owner_may_log_in_from_anywhere(user: Any) -> None:
    ada = await user.sign_in()
    for number in range(3):
        await _guess(user, ada.username, 12, address=f"203.0.113.{number}")

    assert (await user.log_in(ada.username, address="198.51.100.1")).status_code == 200


async def test_an_unknown_name_meets_the_accounts_limit_too(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PER_ACCOUNT", rules.FailureLimit("account", 15, 3600))

    outcomes = Counter[int]()
    for number in range(3):
        outcomes += await _guess(user, "nobody-of-this-name", 8, address=f"203.0.113.{number}")
    assert outcomes == {401: 15, 429: 9}


async def test_one_address_cannot_try_many_accounts(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PER_ADDRESS", rules.FailureLimit("address", 20, 900))
    ada = await user.sign_in()

    outcomes = Counter[int]()
    for number in range(25):
        outcomes += await _guess(user, f"nobody-{number}", 1)
    assert outcomes == {401: 20, 429: 5}
    assert (await user.log_in(ada.username, address="203.0.113.9")).status_code == 429
    assert (await user.log_in(ada.username, address="203.0.113.10")).status_code == 200


async def test_the_addresses_of_one_ipv6_subscriber_are_one(user: Any) -> None:
    outcomes = Counter[int]()
    for number in range(12):
        outcomes += await _guess(user, "nobody-of-this-name", 1, address=f"2001:db8:1:2::{number:x}")
    assert outcomes == {401: 10, 429: 2}
    assert await _guess(user, "nobody-of-this-name", 1, address="2001:db8:1:3::1") == {401: 1}


async def test_a_client_cannot_choose_the_address_that_it_is_counted_by(deployment: Any) -> None:
    async with deployment.replica(gateway_networks=()) as user:
        outcomes = Counter[int]()
        for number in range(12):
            outcomes += await _guess(user, "nobody-of-this-name", 1, address=f"203.0.113.{number}")
    assert outcomes == {401: 10, 429: 2}


async def test_guesses_are_limited_while_valkey_is_away(user: Any, stores: Any) -> None:
    await stores.stop("valkey")
    try:
        assert await _guess(user, "nobody-of-this-name", 12) == {401: 10, 429: 2}
        ada = await user.sign_in()
        assert (await user.profile(ada)).status_code == 200
    finally:
        await stores.start("valkey")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_what_one_subscriber_has_is_one_network(address: str, network: str) -> None:
    assert rules.network_of(address) == network
