"""Refreshing over HTTP and over replicas. test_actions.py has the decisions."""

import asyncio
import base64
from typing import Any

import pytest
from sqlalchemy import text

from user_service.sessions.refresh_tokens import digest, new_token


async def _refreshed(replica: Any, token: str) -> str:
    response = await replica.refresh(token)
    assert response.status_code == 200, response.text
    return str(response.json()["refresh_token"])


async def test_a_refresh_returns_a_new_pair_that_works(replica: Any) -> None:
    ada = await replica.sign_in()

    response = await replica.refresh(ada.tokens["refresh_token"])

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    for name in ("access_token", "refresh_token"):
        assert response.json()[name] != ada.tokens[name]
    headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
    assert (await replica.http.get("/api/v1/users/profile", headers=headers)).json() == ada.account
    # The earlier access token is valid until it expires.
    assert (await replica.profile(ada)).status_code == 200


async def test_a_client_that_has_lost_a_response_gets_the_same_successor_from_any_replica(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    first = ada.tokens["refresh_token"]

    second = await _refreshed(replicas[0], first)

    assert await _refreshed(replicas[1], first) == second
    third = await _refreshed(replicas[1], second)
    assert await _refreshed(replicas[0], third) not in (first, second, third)


async def test_two_concurrent_requests_with_one_token_get_the_same_successor(replicas: Any) -> None:
    ada = await replicas[0].sign_in()

    successors = await asyncio.gather(*(_refreshed(replica, ada.tokens["refresh_token"]) for replica in replicas))

    assert len(set(successors)) == 1
    await _refreshed(replicas[0], successors[0])


async def test_of_concurrent_repeats_one_is_answered_and_the_others_revoke_the_session(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    stolen = ada.tokens["refresh_token"]
    newest = await _refreshed(replicas[0], stolen)

    responses = await asyncio.gather(*(replicas[number % 2].refresh(stolen) for number in range(8)))

    assert sorted(response.status_code for response in responses) == [200, *[401] * 7]
    assert (await replicas[1].refresh(newest)).status_code == 401


@pytest.mark.parametrize(
    ("used_from", "repeated_from", "status"),
    [
        pytest.param("192.0.2.7", "192.0.2.7", 200, id="same address"),
        pytest.param("192.0.2.7", "192.0.2.8", 401, id="another address"),
        pytest.param("2001:db8:0:1::7", "2001:db8:0:1:ffff::9", 200, id="same network"),
        pytest.param("2001:db8:0:1::7", "2001:db8:0:2::7", 401, id="another network"),
    ],
)
async def test_a_used_token_is_answered_again_in_its_network_only(
    replica: Any, used_from: str, repeated_from: str, status: int
) -> None:
    ada = await replica.sign_in()
    body = {"refresh_token": ada.tokens["refresh_token"]}

    statuses = []
    for address in (used_from, repeated_from):
        response = await replica.http.post("/api/v1/users/refresh", json=body, headers=replica.at(address))
        statuses.append(response.status_code)

    assert statuses == [200, status]


async def test_a_token_that_the_version_before_has_rotated_is_answered_once_more(replica: Any, database: Any) -> None:
    ada = await replica.sign_in()
    used = ada.tokens["refresh_token"]
    newest = await _refreshed(replica, used)
    async with database.begin() as connection:
        await connection.execute(
            text("UPDATE refresh_tokens SET used_from = NULL WHERE digest = :digest"), {"digest": digest(used)}
        )

    assert await _refreshed(replica, used) == newest
    assert (await replica.refresh(used)).status_code == 401


async def test_a_used_token_after_the_grace_revokes_the_session(replica: Any, clock: Any) -> None:
    ada = await replica.sign_in()
    stolen = ada.tokens["refresh_token"]
    newest = await _refreshed(replica, stolen)

    clock.advance(seconds=10.1)
    assert (await replica.refresh(stolen)).status_code == 401

    assert (await replica.refresh(newest)).status_code == 401
    assert (await replica.profile(ada)).status_code == 401


async def test_a_thief_and_the_owner_never_both_keep_a_session(replicas: Any) -> None:
    """In whatever order a used token and its successor arrive, at most one chain of tokens goes on."""
    ada = await replicas[0].sign_in()
    first = ada.tokens["refresh_token"]
    second = await _refreshed(replicas[0], first)

    responses = await asyncio.gather(
        *(replicas[number % 2].refresh(first if number % 3 else second) for number in range(12))
    )

    tokens = {response.json()["refresh_token"] for response in responses if response.status_code == 200}
    assert {response.status_code for response in responses} <= {200, 401}
    alive = [token for token in tokens - {second} if (await replicas[0].refresh(token)).status_code == 200]
    assert len(alive) <= 1


@pytest.mark.parametrize("change", ["first", "middle", "last", "unknown", "short", "long", "text", "nul"])
async def test_an_altered_or_unknown_token_is_refused_and_harms_no_session(replica: Any, change: str) -> None:
    ada = await replica.sign_in()
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

    refused = await replica.refresh(altered)

    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"].startswith("Bearer")
    await _refreshed(replica, token)


@pytest.mark.parametrize("body", [{}, {"refresh_token": None}, {"refresh_token": ""}, {"refresh_token": "x" * 600}, []])
async def test_a_malformed_refresh_is_refused(replica: Any, body: Any) -> None:
    assert (await replica.http.post("/api/v1/users/refresh", json=body)).status_code == 422


async def test_the_database_holds_no_usable_token(replica: Any, database: Any) -> None:
    ada = await replica.sign_in()
    tokens = [ada.tokens["refresh_token"], await _refreshed(replica, ada.tokens["refresh_token"])]

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
