"""Each error that a client can act on has its own type (docs/errors.md)."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest

from servicekit.core.errors import TYPE_PREFIX
from user.tests.conftest import API, PASSWORD


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix(TYPE_PREFIX)


async def test_what_is_wrong_with_a_token(replica: Any) -> None:
    ada = await replica.sign_in()
    basic, forged = {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer a.b.c"}

    assert code_of(await replica.http.get(f"{API}/profile")) == (401, "token-missing")
    assert code_of(await replica.http.get(f"{API}/profile", headers=basic)) == (401, "token-missing")
    assert code_of(await replica.http.get(f"{API}/profile", headers=forged)) == (401, "token-invalid")
    assert code_of(await replica.http.get(API, headers=ada.headers)) == (403, "role-required")
    assert (await replica.http.delete(f"{API}/profile", headers=ada.headers)).status_code == 204
    assert code_of(await replica.profile(ada)) == (401, "session-ended")


async def test_what_is_wrong_with_credentials(replica: Any) -> None:
    ada = await replica.sign_in()
    change = {"current_password": "another one", "new_password": "a new and better one"}

    assert code_of(await replica.log_in(ada.username, "another one")) == (401, "invalid-credentials")
    assert code_of(await replica.refresh("unknown")) == (401, "refresh-token-invalid")
    wrong = await replica.http.post(f"{API}/password", json=change, headers=ada.headers)
    assert code_of(wrong) == (403, "wrong-password")
    for _ in range(10):
        refused = await replica.log_in(ada.username, "another one", address="192.0.2.77")
    refused = await replica.log_in(ada.username, "another one", address="192.0.2.77")
    assert code_of(refused) == (429, "too-many-failures")


async def test_what_is_wrong_with_a_registration(replica: Any) -> None:
    ada = await replica.sign_in()
    body = {"username": f"u{uuid4().hex[:8]}", "email": "a@mail.dev", "password": PASSWORD}
    key = {"Idempotency-Key": str(uuid4())}
    register = f"{API}/register"

    taken = await replica.register(email=ada.account["email"])
    assert code_of(taken) == (409, "conflict")
    assert taken.json()["field"] == "email"
    assert code_of(await replica.http.post(register, json={})) == (422, "validation")
    assert code_of(await replica.http.post(register, content=b"{")) == (415, "unsupported-media-type")
    json = {"Content-Type": "application/json"}
    assert code_of(await replica.http.post(register, content=b"{", headers=json)) == (400, "invalid-json")
    large = await replica.http.post(register, json={"username": "x" * 17_000})
    assert code_of(large) == (413, "too-large")
    assert large.json()["limit_bytes"] == 16 * 1024
    body["email"] = f"{uuid4().hex}@mail.dev"
    assert (await replica.http.post(register, json=body, headers=key)).is_success
    other = body | {"display_name": "Other"}
    assert code_of(await replica.http.post(register, json=other, headers=key)) == (422, "key-reused")


async def test_what_is_not_there(replica: Any) -> None:
    ada = await replica.sign_in()

    assert code_of(await replica.http.get(f"{API}/{uuid4()}", headers=ada.headers)) == (404, "not-found")
    assert code_of(await replica.http.get(f"{API}/nowhere/at/all")) == (404, "about:blank")
    assert code_of(await replica.http.put(f"{API}/login")) == (405, "about:blank")


async def test_the_token_form_takes_forms_only(replica: Any) -> None:
    ada = await replica.sign_in()
    fields = {"username": ada.username, "password": PASSWORD, "grant_type": "password"}

    assert (await replica.http.post(f"{API}/token", data=fields)).status_code == 200
    refused = await replica.http.post(f"{API}/token", json=fields)
    assert code_of(refused) == (415, "unsupported-media-type")
    assert refused.headers["Accept"] == "application/x-www-form-urlencoded"
    grant = await replica.http.post(f"{API}/token", data=fields | {"grant_type": "authorization_code"})
    assert code_of(grant) == (400, "unsupported-grant-type")
    assert code_of(await replica.http.post(f"{API}/token", data={})) == (400, "invalid-token-request")
    unknown = await replica.http.post(f"{API}/token", data={"grant_type": "refresh_token", "refresh_token": "x"})
    assert code_of(unknown) == (400, "invalid-grant")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=x", "must be an integer"),
        ("limit=0", "must be at least 1"),
        ("limit=" + "9" * 5_000, "must be an integer"),
        ("&".join(["limit=x"] * 5_000), "must be an integer"),
        ("cursor=" + "a" * 5_000, "must have at most 512 characters"),
    ],
    ids=["text", "zero", "thousands of digits", "thousands of them", "a long cursor"],
)
async def test_a_query_is_refused_shortly_and_in_plain_words(replica: Any, query: str, message: str) -> None:
    ada = await replica.sign_in()
    response = await replica.http.get(f"{API}/sessions?{query}", headers=ada.headers)

    assert code_of(response) == (422, "validation")
    assert response.json()["errors"] == [{"field": f"query.{query[: query.index('=')]}", "message": message}]


async def test_a_signed_in_user_needs_no_body_to_be_refused(replica: Any) -> None:
    """Who sends a request is asked before what it sends."""
    refused = await replica.http.post(f"{API}/password", content=b"x" * 1_000_000)

    assert code_of(refused) == (401, "token-missing")
