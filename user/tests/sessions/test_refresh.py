"""Refresh tokens rotate; a lost answer is forgiven for a moment; a second use ends the session."""

import asyncio
import base64
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from user_service.sessions.refresh_tokens import new_token


def _reuses() -> float:
    return REGISTRY.get_sample_value("service_refresh_token_reuses_total") or 0


async def _refreshed(user: Any, token: str) -> str:
    answer = await user.refresh(token)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["refresh_token"])


async def test_a_refresh_returns_a_new_pair_that_works(user: Any) -> None:
    ada = await user.sign_in()

    answer = await user.refresh(ada.tokens["refresh_token"])

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    for name in ("access_token", "refresh_token"):
        assert answer.json()[name] != ada.tokens[name]
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await user.http.get("/api/v1/users/profile", headers=headers)).json() == ada.account
    # The access token before it stays good until it expires.
    assert (await user.profile(ada)).status_code == 200


async def test_a_client_whose_answer_was_lost_gets_it_again_and_goes_on(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    first = ada.tokens["refresh_token"]

    second = await _refreshed(replicas[0], first)

    assert await _refreshed(replicas[1], first) == second
    third = await _refreshed(replicas[1], second)
    assert await _refreshed(replicas[0], third) not in (first, second, third)


async def test_one_token_used_by_many_at_once_leads_all_to_the_same_successor(replicas: Any) -> None:
    ada = await replicas[0].sign_in()

    successors = await asyncio.gather(
        *(_refreshed(replicas[number % 2], ada.tokens["refresh_token"]) for number in range(8))
    )

    assert len(set(successors)) == 1
    await _refreshed(replicas[0], successors[0])


async def test_a_used_token_after_the_grace_ends_the_whole_family(user: Any, clock: Any) -> None:
    ada = await user.sign_in()
    stolen = ada.tokens["refresh_token"]
    newest = await _refreshed(user, stolen)
    before = _reuses()

    clock.advance(seconds=10.1)
    assert (await user.refresh(stolen)).status_code == 401

    assert _reuses() == before + 1
    assert (await user.refresh(newest)).status_code == 401
    assert (await user.profile(ada)).status_code == 401


async def test_a_used_token_within_the_grace_ends_the_family_once_its_successor_was_used(replicas: Any) -> None:
    first, second = replicas
    ada = await first.sign_in()
    stolen = ada.tokens["refresh_token"]
    newest = await _refreshed(second, await _refreshed(first, stolen))

    assert (await second.refresh(stolen)).status_code == 401

    assert (await first.refresh(newest)).status_code == 401
    assert (await second.profile(ada)).status_code == 401


async def test_a_token_of_long_ago_still_ends_its_family(user: Any, clock: Any) -> None:
    ada = await user.sign_in()
    oldest = newest = ada.tokens["refresh_token"]
    for _ in range(5):
        newest = await _refreshed(user, newest)
        clock.advance(days=4)

    assert (await user.refresh(oldest)).status_code == 401
    assert (await user.refresh(newest)).status_code == 401


async def test_reuse_ends_one_family_and_no_other(user: Any, clock: Any) -> None:
    ada = await user.sign_in()
    elsewhere = await user.log_in_again(ada)
    await _refreshed(user, ada.tokens["refresh_token"])
    clock.advance(minutes=1)
    await user.refresh(ada.tokens["refresh_token"])

    await _refreshed(user, elsewhere.tokens["refresh_token"])


async def test_a_thief_and_the_owner_at_once_never_both_keep_a_session(replicas: Any) -> None:
    """Whoever comes with a used token, in whatever order: either one chain goes on, or it ends for both."""
    ada = await replicas[0].sign_in()
    first = ada.tokens["refresh_token"]
    second = await _refreshed(replicas[0], first)

    answers = await asyncio.gather(
        *(replicas[number % 2].refresh(first if number % 3 else second) for number in range(12))
    )

    tokens = {answer.json()["refresh_token"] for answer in answers if answer.status_code == 200}
    assert {answer.status_code for answer in answers} <= {200, 401}
    alive = [token for token in tokens - {second} if (await replicas[0].refresh(token)).status_code == 200]
    assert len(alive) <= 1


@pytest.mark.parametrize("change", ["first", "middle", "last", "unknown", "short", "long", "text", "nul"])
async def test_an_altered_or_unknown_token_is_refused_and_harms_no_session(user: Any, change: str) -> None:
    ada = await user.sign_in()
    token = ada.tokens["refresh_token"]
    other = {letter: "B" if letter == "A" else "A" for letter in token}
    altered = {
        "first": other[token[0]] + token[1:],
        "middle": token[:20] + other[token[20]] + token[21:],
        "last": token[:-1] + other[token[-1]],
        "unknown": new_token(),
        "short": token[:-4],
        "long": token + "AAAA",
        "text": "'; DROP TABLE sessions; --",
        "nul": token[:-1] + "\x00",
    }[change]

    refused = await user.refresh(altered)

    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"].startswith("Bearer")
    await _refreshed(user, token)


@pytest.mark.parametrize("body", [{}, {"refresh_token": None}, {"refresh_token": ""}, {"refresh_token": "x" * 600}, []])
async def test_a_malformed_refresh_is_refused(user: Any, body: Any) -> None:
    assert (await user.http.post("/api/v1/users/refresh", json=body)).status_code == 422


async def test_a_session_ends_when_it_was_not_refreshed_for_thirty_days(user: Any, clock: Any) -> None:
    ada = await user.sign_in()
    clock.advance(days=29)
    token = await _refreshed(user, ada.tokens["refresh_token"])
    clock.advance(days=29)
    token = await _refreshed(user, token)

    clock.advance(days=30)
    assert (await user.refresh(token)).status_code == 401


async def test_the_database_holds_no_token_that_could_be_used(user: Any, database: Any) -> None:
    ada = await user.sign_in()
    tokens = [ada.tokens["refresh_token"], await _refreshed(user, ada.tokens["refresh_token"])]

    async with database.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT digest, successor FROM refresh_tokens JOIN sessions ON sessions.id = session_id "
                "WHERE user_id = :id ORDER BY refresh_tokens.generation"
            ),
            {"id": ada.id},
        )
        used, newest = rows.all()
    for token in tokens:
        raw = base64.urlsafe_b64decode(token + "=")
        assert all(raw not in (value or b"") for row in (used, newest) for value in row)
    assert newest.successor is None
