"""Changing one's password."""

import asyncio
from collections import Counter
from typing import Any

import pytest

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"
NEW = "another good password"


async def _change(user: Any, who: Any, current: str = PASSWORD, new: str = NEW, address: str = "192.0.2.1") -> Any:
    return await user.http.post(
        f"{API}/password",
        json={"current_password": current, "new_password": new},
        headers={**who.headers, **user.at(address)},
    )


async def test_the_new_password_logs_in_and_the_old_one_no_more(user: Any) -> None:
    ada = await user.sign_in()

    assert (await _change(user, ada)).status_code == 204

    assert (await user.log_in(ada.username, PASSWORD)).status_code == 401
    assert (await user.log_in(ada.username, NEW)).status_code == 200


async def test_a_change_ends_all_other_sessions_and_keeps_the_one_that_asked(user: Any) -> None:
    ada = await user.sign_in()
    thief = await user.log_in_again(ada)

    await _change(user, ada)

    assert (await user.profile(thief)).status_code == 401
    assert (await user.refresh(thief.tokens["refresh_token"])).status_code == 401
    assert (await user.profile(ada)).status_code == 200
    assert (await user.refresh(ada.tokens["refresh_token"])).status_code == 200


async def test_a_token_alone_changes_nothing(user: Any) -> None:
    ada = await user.sign_in()

    refused = await _change(user, ada, current="a guess of mine")

    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert (await user.log_in(ada.username, PASSWORD)).status_code == 200


async def test_a_stolen_token_is_no_way_around_the_limit_on_guesses(user: Any) -> None:
    ada = await user.sign_in()
    for _ in range(10):
        assert (await _change(user, ada, current="a guess of mine")).status_code == 403

    assert (await _change(user, ada)).status_code == 429
    assert (await user.log_in(ada.username)).status_code == 429
    assert (await _change(user, ada, address="192.0.2.99")).status_code == 204


@pytest.mark.parametrize("new", ["short", "password123", "x" * 129])
async def test_a_new_password_follows_the_same_rules(user: Any, new: str) -> None:
    ada = await user.sign_in()

    answer = await _change(user, ada, new=new)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["body.new_password"]
    assert new not in answer.text


async def test_of_several_changes_at_once_one_happens(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    words = [f"a new password, number {number}" for number in range(4)]

    answers = await asyncio.gather(*(_change(replicas[number % 2], ada, new=word) for number, word in enumerate(words)))

    # A change that came too late found its current password replaced, before or after it was checked.
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[204] == 1
    assert statuses.keys() <= {204, 403, 409}
    winner = next(word for word, answer in zip(words, answers, strict=True) if answer.status_code == 204)
    assert (await replicas[1].log_in(ada.username, winner)).status_code == 200


async def test_no_login_with_the_old_password_outlives_the_change(replicas: Any) -> None:
    ada = await replicas[0].sign_in()

    logins, changed = await asyncio.gather(
        asyncio.gather(*(replicas[number % 2].log_in(ada.username) for number in range(8))), _change(replicas[0], ada)
    )

    assert changed.status_code == 204
    for login in logins:
        assert login.status_code in (200, 401)
        if login.status_code == 200:
            assert (await replicas[1].refresh(login.json()["refresh_token"])).status_code == 401
