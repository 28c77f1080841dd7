"""The refresh token as a cookie: `SESSION_COOKIE=on`."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import pytest
from fastapi import Request

from user_service.sessions.cookie import NAME, OriginRefused, SessionCookie

API = "/api/v1/users"
# The test client's own Host.
OWN = {"Origin": "https://service"}
ALLOWED = {"Origin": "https://app.example"}
FOREIGN = {"Origin": "https://mallory.example"}


@pytest.fixture
async def replica(deployment: Any, valkey_url: str) -> AsyncIterator[Any]:
    async with deployment.replica(session_cookie=True, cors_allowed_origins=ALLOWED["Origin"]) as replica:
        yield replica


async def _log_in(replica: Any, user: Any, **headers: str) -> Any:
    body = {"username_or_email": user["username"], "password": "correct horse battery staple"}
    return await replica.http.post(f"{API}/login", json=body, headers=headers)


@pytest.fixture
async def user(replica: Any) -> Any:
    return (await replica.register()).json()


def _cookie(response: Any) -> Any:
    return SimpleCookie(response.headers["set-cookie"])[NAME]


def _sending(cookie: Any, **origin: str) -> dict[str, str]:
    return {"Cookie": f"other=1; {NAME}={cookie.value}", **origin}


async def test_a_login_sets_a_cookie_that_no_script_can_read_and_a_refresh_and_a_logout_use_it(
    replica: Any, user: Any
) -> None:
    login = await _log_in(replica, user, **OWN)
    assert login.json().keys() == {"access_token", "token_type", "expires_in"}
    assert login.headers["cache-control"] == "no-store"
    first = _cookie(login)
    assert (first["path"], first["secure"], first["httponly"], first["domain"]) == ("/", True, True, "")
    assert (first["samesite"].lower(), int(first["max-age"])) == ("strict", 30 * 24 * 3600)

    for body in (None, {}):
        refreshed = await replica.http.post(f"{API}/refresh", json=body, headers=_sending(first, **OWN))
        assert refreshed.status_code == 200, refreshed.text
        assert refreshed.json().keys() == {"access_token", "token_type", "expires_in"}
        newest, first = _cookie(refreshed), _cookie(refreshed)

    bearer = {"Authorization": f"Bearer {refreshed.json()['access_token']}"}
    ended = await replica.http.post(f"{API}/logout", headers=_sending(newest, **OWN))
    assert ended.status_code == 204
    assert (_cookie(ended).value, _cookie(ended)["max-age"]) == ("", "0")
    assert (await replica.http.get(f"{API}/profile", headers=bearer)).status_code == 401
    again = await replica.http.post(f"{API}/refresh", headers=_sending(newest, **OWN))
    assert again.json()["type"] == "urn:baseplate:problem:refresh-token-invalid"


async def test_the_token_form_sets_the_cookie_too(replica: Any, user: Any) -> None:
    form = {"grant_type": "password", "username": user["username"], "password": "correct horse battery staple"}
    granted = await replica.http.post(f"{API}/token", data=form)
    assert "refresh_token" not in granted.json()

    form = {"grant_type": "refresh_token", "refresh_token": _cookie(granted).value}
    refreshed = await replica.http.post(f"{API}/token", data=form, headers=ALLOWED)
    assert "refresh_token" not in refreshed.json()
    assert _cookie(refreshed).value != form["refresh_token"]


@pytest.mark.parametrize("path", ["refresh", "logout"])
@pytest.mark.parametrize(
    "origin",
    [FOREIGN, {"Origin": "null"}, {"Origin": "http://service"}, {"Origin": "https://service.mallory.example"}, {}],
    ids=["foreign", "null", "plain", "similar", "none"],
)
async def test_a_page_of_another_origin_cannot_use_the_cookie(
    replica: Any, user: Any, path: str, origin: dict[str, str]
) -> None:
    cookie = _cookie(await _log_in(replica, user, **OWN))

    refused = await replica.http.post(f"{API}/{path}", headers=_sending(cookie, **origin))

    assert (refused.status_code, refused.json()["type"]) == (403, "urn:baseplate:problem:origin-refused")
    assert "set-cookie" not in refused.headers
    # It had no effect.
    kept = await replica.http.post(f"{API}/refresh", headers=_sending(cookie, **ALLOWED))
    assert kept.status_code == 200


async def test_a_page_of_another_origin_cannot_log_a_browser_in(replica: Any, user: Any) -> None:
    form = {"grant_type": "password", "username": user["username"], "password": "correct horse battery staple"}

    assert (await _log_in(replica, user, **FOREIGN)).status_code == 403
    assert (await replica.http.post(f"{API}/token", data=form, headers=FOREIGN)).status_code == 403
    assert (await _log_in(replica, user)).status_code == 200


async def test_a_stolen_cookie_that_was_used_before_revokes_the_session(replica: Any, user: Any, clock: Any) -> None:
    stolen = _cookie(await _log_in(replica, user, **OWN))
    owners = _cookie(await replica.http.post(f"{API}/refresh", headers=_sending(stolen, **OWN)))
    clock.advance(seconds=11)

    assert (await replica.http.post(f"{API}/refresh", headers=_sending(stolen, **OWN))).status_code == 401
    assert (await replica.http.post(f"{API}/refresh", headers=_sending(owners, **OWN))).status_code == 401
    clock.reset()


async def test_a_token_in_the_body_comes_first(replica: Any, user: Any) -> None:
    first, second = [_cookie(await _log_in(replica, user, **OWN)) for _ in range(2)]

    await replica.http.post(f"{API}/logout", headers=_sending(first, **OWN), json={"refresh_token": second.value})

    assert (await replica.http.post(f"{API}/refresh", headers=_sending(second, **OWN))).status_code == 401
    assert (await replica.http.post(f"{API}/refresh", headers=_sending(first, **OWN))).status_code == 200


async def test_the_document_says_that_the_body_has_no_refresh_token(replica: Any) -> None:
    document = (await replica.http.get("/openapi.json")).json()

    assert "refresh_token" not in document["components"]["schemas"]["TokenPair"]["required"]


async def test_without_the_setting_a_cookie_means_nothing(shared_replicas: Any) -> None:
    plain = shared_replicas[0]
    ada = await plain.sign_in()
    sent = {"Cookie": f"{NAME}={ada.tokens['refresh_token']}", **OWN}

    for body in (None, {}):
        refused = await plain.http.post(f"{API}/refresh", json=body, headers=sent)
        assert refused.status_code == 422
        assert refused.json()["errors"] == [{"field": "body.refresh_token", "message": "is required"}]
    assert (await plain.http.post(f"{API}/logout", headers=sent)).status_code == 401


@pytest.mark.parametrize(
    ("host", "origin", "is_allowed"),
    [
        ("app.dev", "https://app.dev", True),
        ("app.dev:8443", "https://app.dev:8443", True),
        ("app.dev", "https://app.dev:8443", False),
        ("app.dev", "http://app.dev", False),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("localhost:8080", "http://localhost:8080", True),
        ("[::1]:8080", "http://[::1]:8080", True),
        ("localhost:8080", "http://localhost:5173", False),
        ("", "null", False),
        ("", "https://", False),
    ],
    ids=["own", "own port", "another port", "plain", "IPv4", "localhost", "IPv6", "dev server", "null", "no host"],
)
def test_the_own_origin_is_secure_or_on_this_machine(host: str, origin: str, is_allowed: bool) -> None:
    headers = [(b"host", host.encode()), (b"origin", origin.encode())]
    request = Request({"type": "http", "headers": headers})

    if is_allowed:
        SessionCookie().check_origin(request)
    else:
        with pytest.raises(OriginRefused):
            SessionCookie().check_origin(request)
