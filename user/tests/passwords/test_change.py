"""Changing a password over HTTP."""

import asyncio
from collections import Counter
from typing import Any

import pytest

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"
NEW = "another good password"


async def _change(replica: Any, who: Any, current: str = PASSWORD, new: str = NEW, address: str = "192.0.2.1") -> Any:
    return await replica.http.post(
        f"{API}/password",
        json={"current_password": current, "new_password": new},
        headers={**who.headers, **replica.at(address)},
    )


async def test_the_new_password_logs_in_and_the_old_one_does_not(replica: Any) -> None:
    ada = await replica.sign_in()

    assert (await _change(replica, ada)).status_code == 204

    assert (await replica.log_in(ada.username, PASSWORD)).status_code == 401
    assert (await replica.log_in(ada.username, NEW)).status_code == 200


async def test_a_change_revokes_all_sessions_but_the_one_that_asked(replica: Any) -> None:
    ada = await replica.sign_in()
    thief = await replica.log_in_again(ada)

    await _change(replica, ada)

    assert (await replica.profile(thief)).status_code == 401
    assert (await replica.refresh(thief.tokens["refresh_token"])).status_code == 401
    assert (await replica.profile(ada)).status_code == 200
    assert (await replica.refresh(ada.tokens["refresh_token"])).status_code == 200


async def test_a_token_without_the_current_password_changes_nothing(replica: Any) -> None:
    ada = await replica.sign_in()

    refused = await _change(replica, ada, current="a guess of mine")

    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert (await replica.log_in(ada.username, PASSWORD)).status_code == 200


async def test_changes_and_logins_share_the_limit_on_guesses(replica: Any) -> None:
    ada = await replica.sign_in()
    for _ in range(10):
        assert (await _change(replica, ada, current="a guess of mine")).status_code == 403

    assert (await _change(replica, ada)).status_code == 429
    assert (await replica.log_in(ada.username)).status_code == 429
    assert (await _change(replica, ada, address="192.0.2.99")).status_code == 204


@pytest.mark.parametrize("new", ["short", "password123", "x" * 129])
async def test_a_new_password_follows_the_same_rules(replica: Any, new: str) -> None:
    ada = await replica.sign_in()

    response = await _change(replica, ada, new=new)

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["body.new_password"]
    assert new not in response.text


async def test_one_of_several_concurrent_changes_succeeds(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    words = [f"a new password, number {number}" for number in range(4)]

    responses = await asyncio.gather(
        *(_change(replicas[number % 2], ada, new=word) for number, word in enumerate(words))
    )

    # A later change finds its current password replaced, before or after the check.
    statuses = Counter(response.status_code for response in responses)
    assert statuses[204] == 1
    assert statuses.keys() <= {204, 403, 409}
    winner = next(word for word, response in zip(words, responses, strict=True) if response.status_code == 204)
    assert (await replicas[1].log_in(ada.username, winner)).status_code == 200


async def test_no_session_started_with_the_old_password_survives_the_change(replicas: Any) -> None:
    ada = await replicas[0].sign_in()

    logins, changed = await asyncio.gather(
        asyncio.gather(*(replicas[number % 2].log_in(ada.username) for number in range(8))), _change(replicas[0], ada)
    )

    assert changed.status_code == 204
    for login in logins:
        assert login.status_code in (200, 401)
        if login.status_code == 200:
            assert (await replicas[1].refresh(login.json()["refresh_token"])).status_code == 401
