"""Logging in: what it returns, and that it tells nothing about who has an account."""

import asyncio
from typing import Any

import argon2
import jwt
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"


def _hashes() -> float:
    return REGISTRY.get_sample_value("service_password_hashes_total") or 0


async def test_a_login_returns_a_pair_of_tokens_that_no_cache_keeps(user: Any) -> None:
    ada = await user.sign_in()

    for name in (ada.username, ada.username.upper(), ada.account["email"], ada.account["email"].upper()):
        answer = await user.log_in(name)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 900)


async def test_an_access_token_says_what_every_service_relies_on(user: Any) -> None:
    ada = await user.sign_in()
    token = ada.tokens["access_token"]
    keys = (await user.http.get("/.well-known/jwks.json")).json()["keys"]

    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"], header["kid"]) == ("ES256", "at+jwt", keys[0]["kid"])
    claims = jwt.decode(token, jwt.PyJWK(keys[0]), algorithms=["ES256"], issuer="baseplate-user", audience="baseplate")
    assert claims.keys() == {"iss", "aud", "sub", "sid", "roles", "jti", "iat", "exp"}
    assert claims["sub"] == ada.id
    assert claims["roles"] == ["user"]
    assert claims["exp"] - claims["iat"] == 15 * 60


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer_for_the_same_work(user: Any) -> None:
    ada = await user.sign_in()
    refusals = []
    for name in (ada.username, ada.account["email"], "nobody-here", "nobody@example.com", "no name at all", "nul\x00"):
        before = _hashes()
        answer = await user.log_in(name, "a wrong password")
        assert _hashes() == before + 1
        refusals.append(answer)

    assert {answer.status_code for answer in refusals} == {401}
    assert len({str({**answer.json(), "request_id": None}) for answer in refusals}) == 1
    assert len({str(sorted(set(answer.headers) - {"x-request-id"})) for answer in refusals}) == 1
    assert refusals[0].headers["www-authenticate"] == "Bearer"
    assert refusals[0].headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        {"username_or_email": "ada"},
        {"password": PASSWORD},
        {"username_or_email": "ada", "password": ""},
        {"username_or_email": "", "password": PASSWORD},
        {"username_or_email": "a" * 100_000, "password": PASSWORD},
        {"username_or_email": "ada", "password": "x" * 100_000},
        {"username_or_email": {"$gt": ""}, "password": {"$gt": ""}},
        {"username_or_email": "ada", "password": PASSWORD, "remember": True},
        {"username": "ada", "password": PASSWORD},
    ],
)
async def test_a_malformed_login_is_refused_before_any_work(user: Any, body: Any) -> None:
    before = _hashes()

    assert (await user.http.post(f"{API}/login", json=body)).status_code == 422
    assert _hashes() == before


@pytest.mark.parametrize("evil", ["' OR '1'='1", "ada'--", '" OR ""="', "%", "_______", "\\"])
async def test_sql_in_a_name_or_a_password_finds_nobody(user: Any, evil: str) -> None:
    ada = await user.sign_in()

    assert (await user.log_in(evil)).status_code == 401
    assert (await user.log_in(ada.username, evil)).status_code == 401


async def test_one_password_logs_in_however_its_accents_are_typed(user: Any) -> None:
    ada = await user.sign_in(password="caf\u00e9 au lait")

    assert (await user.log_in(ada.username, "cafe\u0301 au lait")).status_code == 200


async def test_a_login_renews_a_hash_of_old_parameters(user: Any, database: Any) -> None:
    ada = await user.sign_in()
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    async with database.begin() as connection:
        await connection.execute(
            text("UPDATE users SET password_hash = :old WHERE id = :id"), {"old": old, "id": ada.id}
        )

    assert (await user.log_in(ada.username)).status_code == 200

    async with database.connect() as connection:
        new = await connection.scalar(text("SELECT password_hash FROM users WHERE id = :id"), {"id": ada.id})
    assert new.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await user.log_in(ada.username)).status_code == 200


async def test_a_login_waits_for_a_change_of_its_account_and_heeds_it(user: Any, database: Any) -> None:
    """Otherwise a session with the old role could begin after the change has ended all sessions."""
    ada = await user.sign_in()
    async with database.begin() as change:
        await change.execute(text("UPDATE users SET role = 'admin' WHERE id = :id"), {"id": ada.id})
        login = asyncio.create_task(user.log_in(ada.username))
        async with asyncio.timeout(60):
            while not login.done() and not await _somebody_waits_for_a_lock(database):
                await asyncio.sleep(0.01)

    token = (await login).json()["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["roles"] == ["admin"]


async def _somebody_waits_for_a_lock(database: Any) -> bool:
    async with database.connect() as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(await connection.scalar(text(waiting)))


async def test_the_password_form_of_oauth_is_the_same_login(user: Any) -> None:
    ada = await user.sign_in()
    form = {"grant_type": "password", "username": ada.username, "password": PASSWORD, "scope": "", "client_id": "docs"}

    answer = await user.http.post(f"{API}/token", data=form)

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await user.http.get(f"{API}/profile", headers=headers)).json() == ada.account


async def test_the_password_form_refuses_in_the_words_of_the_rfc_inside_a_problem(user: Any) -> None:
    ada = await user.sign_in()

    wrong = await user.http.post(f"{API}/token", data={"username": ada.username, "password": "wrong password"})
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_grant")
    other = {"grant_type": "client_credentials", "username": ada.username, "password": PASSWORD}
    unsupported = await user.http.post(f"{API}/token", data=other)
    assert (unsupported.status_code, unsupported.json()["error"]) == (400, "unsupported_grant_type")
    for answer in (wrong, unsupported, await user.http.post(f"{API}/token", data={"username": "x"})):
        assert answer.headers["content-type"] == "application/problem+json"


async def test_no_password_and_no_token_is_logged(user: Any, capfd: pytest.CaptureFixture[str]) -> None:
    ada = await user.sign_in()
    await user.log_in(ada.username, "a wrong password that stays secret")
    await user.refresh(ada.tokens["refresh_token"])

    logged = "".join(capfd.readouterr())
    assert "/api/v1/users/login" in logged
    for secret in (PASSWORD, "a wrong password that stays secret", *list(ada.tokens.values())[:2]):
        assert secret not in logged
