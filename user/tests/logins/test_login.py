"""Logging in: what it returns, and that it does not reveal which accounts exist."""

import asyncio
from typing import Any

import jwt
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from opskit.catalog import JWKS_PATH

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"


def _hashes() -> float:
    return REGISTRY.get_sample_value("service_password_hashes_total") or 0


async def test_a_login_returns_a_pair_of_tokens_that_no_cache_may_store(replica: Any) -> None:
    ada = await replica.sign_in()

    for name in (ada.username, ada.username.upper(), ada.account["email"], ada.account["email"].upper()):
        response = await replica.log_in(name)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        assert response.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (response.json()["token_type"], response.json()["expires_in"]) == ("bearer", 900)


async def test_an_access_token_has_the_claims_that_every_service_relies_on(replica: Any) -> None:
    ada = await replica.sign_in()
    token = ada.tokens["access_token"]
    keys = (await replica.http.get(JWKS_PATH)).json()["keys"]

    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"], header["kid"]) == ("ES256", "at+jwt", keys[0]["kid"])
    claims = jwt.decode(token, jwt.PyJWK(keys[0]), algorithms=["ES256"], issuer="baseplate-user", audience="baseplate")
    assert claims.keys() == {"iss", "aud", "sub", "sid", "roles", "jti", "iat", "exp"}
    assert claims["sub"] == ada.id
    assert claims["roles"] == ["user"]
    assert claims["exp"] - claims["iat"] == 15 * 60


async def test_a_wrong_password_and_an_unknown_name_get_the_same_response_after_the_same_work(replica: Any) -> None:
    ada = await replica.sign_in()
    refusals = []
    for name in (ada.username, ada.account["email"], "nobody-here", "nobody@example.com", "no name at all", "nul\x00"):
        before = _hashes()
        response = await replica.log_in(name, "a wrong password")
        assert _hashes() == before + 1
        refusals.append(response)

    assert {response.status_code for response in refusals} == {401}
    assert len({str({**response.json(), "request_id": None}) for response in refusals}) == 1
    assert len({str(sorted(set(response.headers) - {"x-request-id"})) for response in refusals}) == 1
    assert refusals[0].headers["www-authenticate"] == "Bearer"
    assert refusals[0].headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        {"username_or_email": "ada"},
        {"password": PASSWORD},
        {"username_or_email": "ada", "password": ""},
        {"username_or_email": "", "password": PASSWORD},
        {"username_or_email": "a" * 10_000, "password": PASSWORD},
        {"username_or_email": "ada", "password": "x" * 10_000},
        {"username_or_email": {"$gt": ""}, "password": {"$gt": ""}},
        {"username_or_email": "ada", "password": PASSWORD, "remember": True},
        {"username": "ada", "password": PASSWORD},
    ],
)
async def test_a_malformed_login_is_refused_before_any_work(replica: Any, body: Any) -> None:
    before = _hashes()

    assert (await replica.http.post(f"{API}/login", json=body)).status_code == 422
    assert _hashes() == before


@pytest.mark.parametrize("evil", ["' OR '1'='1", "ada'--", '" OR ""="', "%", "_______", "\\"])
async def test_sql_in_a_name_or_a_password_logs_in_to_no_account(replica: Any, evil: str) -> None:
    ada = await replica.sign_in()

    assert (await replica.log_in(evil)).status_code == 401
    assert (await replica.log_in(ada.username, evil)).status_code == 401


async def test_a_login_waits_for_a_concurrent_change_of_its_account_and_sees_it(replica: Any, database: Any) -> None:
    """Otherwise a session with the old role could start after the change has revoked all sessions."""
    ada = await replica.sign_in()
    async with database.begin() as change:
        await change.execute(text("UPDATE users SET role = 'admin' WHERE id = :id"), {"id": ada.id})
        login = asyncio.create_task(replica.log_in(ada.username))
        async with asyncio.timeout(60):
            while not login.done() and not await _a_lock_is_awaited(database):
                await asyncio.sleep(0.01)

    token = (await login).json()["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["roles"] == ["admin"]


async def _a_lock_is_awaited(database: Any) -> bool:
    async with database.connect() as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(await connection.scalar(text(waiting)))


async def test_the_password_form_of_oauth_is_the_same_login(replica: Any) -> None:
    ada = await replica.sign_in()
    form = {"grant_type": "password", "username": ada.username, "password": PASSWORD, "scope": "", "client_id": "docs"}

    response = await replica.http.post(f"{API}/token", data=form)

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
    assert (await replica.http.get(f"{API}/profile", headers=headers)).json() == ada.account


async def test_a_refresh_token_is_a_grant(replica: Any) -> None:
    ada = await replica.sign_in()
    form = {"grant_type": "refresh_token", "refresh_token": ada.tokens["refresh_token"], "scope": "", "client_id": "x"}

    response = await replica.http.post(f"{API}/token", data=form)

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json().keys() == ada.tokens.keys()
    assert (await replica.refresh(response.json()["refresh_token"])).status_code == 200
    # Used before, and its successor as well.
    again = await replica.http.post(f"{API}/token", data=form)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    unknown = await replica.http.post(f"{API}/token", data={**form, "refresh_token": "never issued"})
    assert (unknown.status_code, unknown.json()["error"]) == (400, "invalid_grant")


async def test_client_credentials_are_ignored_because_no_client_is_registered(replica: Any) -> None:
    """Swagger's button Authorize sends them, empty ones too."""
    ada = await replica.sign_in()
    form = {"grant_type": "password", "username": ada.username, "password": PASSWORD}

    for authorization in ("Basic Og==", "Basic Y2xpZW50OnNlY3JldA==", "Bearer a.b.c"):
        response = await replica.http.post(f"{API}/token", data=form, headers={"Authorization": authorization})
        assert response.status_code == 200


async def test_a_wrong_password_in_the_form_is_an_invalid_grant(replica: Any) -> None:
    ada = await replica.sign_in()
    form = {"grant_type": "password", "username": ada.username, "password": "wrong password"}

    wrong = await replica.http.post(f"{API}/token", data=form)

    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_grant")
    assert wrong.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("form", "code"),
    [
        pytest.param("", "invalid_request", id="empty"),
        pytest.param("username=ada&password=x", "invalid_request", id="no grant type"),
        pytest.param("grant_type=&username=ada&password=x", "invalid_request", id="empty grant type"),
        pytest.param("grant_type=password&username=ada", "invalid_request", id="no password"),
        pytest.param("grant_type=password&username=&password=x", "invalid_request", id="empty name"),
        pytest.param("grant_type=password&username=a&username=b&password=x", "invalid_request", id="two names"),
        pytest.param("grant_type=password&grant_type=password", "invalid_request", id="two grant types"),
        pytest.param("grant_type=password&scope=a&scope=a&username=a&password=x", "invalid_request", id="two scopes"),
        pytest.param("grant_type=refresh_token", "invalid_request", id="no refresh token"),
        pytest.param("grant_type=refresh_token&refresh_token=" + "x" * 600, "invalid_request", id="long token"),
        pytest.param("grant_type=password&password=x&username=" + "x" * 600, "invalid_request", id="long name"),
        pytest.param("grant_type=password&username=%FF&password=x", "invalid_request", id="not UTF-8"),
        pytest.param("&".join(f"p{n}=1" for n in range(100)), "invalid_request", id="many parameters"),
        pytest.param("grant_type=authorization_code&code=x", "unsupported_grant_type", id="code"),
        pytest.param("grant_type=PASSWORD&username=a&password=x", "unsupported_grant_type", id="capitals"),
        pytest.param(
            "grant_type=urn:ietf:params:oauth:grant-type:device_code", "unsupported_grant_type", id="device code"
        ),
    ],
)
async def test_the_form_is_refused_with_the_codes_of_the_rfc_in_a_problem_document(
    replica: Any, form: str, code: str
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    response = await replica.http.post(f"{API}/token", content=form, headers=headers)

    assert (response.status_code, response.json()["error"]) == (400, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["zo\u00e9", "zo%C3%A9"], ids=["raw", "percent-encoded"])
async def test_the_form_may_hold_utf_8_in_both_ways(replica: Any, name: str) -> None:
    """Browsers encode it, curl does not."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    form = f"grant_type=password&username={name}&password=x"

    response = await replica.http.post(f"{API}/token", content=form.encode(), headers=headers)

    assert (response.status_code, response.json()["error"]) == (401, "invalid_grant")


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
async def test_another_media_type_than_a_form_is_refused(replica: Any, media_type: str) -> None:
    body = b'{"grant_type": "password", "username": "ada", "password": "x"}'

    response = await replica.http.post(f"{API}/token", content=body, headers={"Content-Type": media_type})

    assert (response.status_code, response.json()["error"]) == (415, "invalid_request")
    assert response.headers["accept"] == "application/x-www-form-urlencoded"


async def test_no_password_and_no_token_is_logged(
    deployment: Any, valkey_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    # The log goes to the streams that are there when a process starts.
    async with deployment.replica() as replica:
        ada = await replica.sign_in()
        await replica.log_in(ada.username, "a wrong password that stays secret")
        await replica.refresh(ada.tokens["refresh_token"])

    logged = "".join(capfd.readouterr())
    assert "/api/v1/users/login" in logged
    for secret in (PASSWORD, "a wrong password that stays secret", *list(ada.tokens.values())[:2]):
        assert secret not in logged
