"""One's own account, and how others see it."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

API = "/api/v1/users"


async def _patch(user: Any, signed_in: Any, body: Any) -> Any:
    return await user.http.patch(f"{API}/profile", json=body, headers=signed_in.headers)


async def test_the_profile_is_the_account_as_it_was_registered(user: Any) -> None:
    signed_in = await user.sign_in()

    answer = await user.profile(signed_in)

    assert answer.status_code == 200
    assert answer.json() == signed_in.account


async def test_a_change_shows_at_once_in_the_profile_and_to_others(replicas: Any) -> None:
    first, second = replicas
    ada, bob = await first.sign_in(), await first.sign_in()
    seen = await second.http.get(f"{API}/{ada.id}", headers=bob.headers)
    assert seen.json()["display_name"] == ada.username

    changed = await _patch(first, ada, {"display_name": " Ada ", "email": f"New-{ada.username}@EXAMPLE.org"})

    assert changed.status_code == 200
    expected = {**ada.account, "display_name": "Ada", "email": f"New-{ada.username}@example.org"}
    assert changed.json() == expected
    for replica in replicas:
        assert (await replica.profile(ada)).json() == expected
        seen = await replica.http.get(f"{API}/{ada.id}", headers=bob.headers)
        assert seen.json()["display_name"] == "Ada"


async def test_an_empty_change_changes_nothing(user: Any) -> None:
    ada = await user.sign_in()

    answer = await _patch(user, ada, {})

    assert answer.status_code == 200
    assert answer.json() == ada.account


@pytest.mark.parametrize(
    "body",
    [
        {"role": "admin"},
        {"id": str(uuid4())},
        {"username": "another"},
        {"password": "correct horse battery"},
        {"display_name": None},
        {"display_name": ""},
        {"display_name": "nul\x00"},
        {"email": None},
        {"email": "nobody"},
        [],
    ],
)
async def test_a_profile_takes_no_other_fields_and_no_bad_values(user: Any, body: Any) -> None:
    ada = await user.sign_in()

    assert (await _patch(user, ada, body)).status_code == 422
    assert (await user.profile(ada)).json() == ada.account


async def test_an_address_that_another_account_has_is_refused_and_nothing_changes(user: Any) -> None:
    ada, bob = await user.sign_in(), await user.sign_in()

    answer = await _patch(user, ada, {"email": bob.account["email"].upper(), "display_name": "Thief"})

    assert answer.status_code == 409
    assert answer.json()["errors"] == [{"field": "body.email", "message": "taken"}]
    assert (await user.profile(ada)).json() == ada.account


async def test_of_many_who_want_one_address_at_once_one_gets_it(replicas: Any) -> None:
    people = [await replicas[0].sign_in() for _ in range(6)]
    wanted = f"{uuid4().hex[:8]}@example.com"

    answers = await asyncio.gather(
        *(_patch(replicas[number % 2], person, {"email": wanted}) for number, person in enumerate(people))
    )

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 5}


async def test_one_logs_in_with_the_new_address_and_not_with_the_old_one(user: Any) -> None:
    ada = await user.sign_in()
    await _patch(user, ada, {"email": f"new-{ada.username}@example.com"})

    assert (await user.log_in(f"NEW-{ada.username}@example.com")).status_code == 200
    assert (await user.log_in(ada.account["email"])).status_code == 401


async def test_others_see_neither_the_address_nor_the_role(user: Any) -> None:
    ada, bob = await user.sign_in(), await user.sign_in()

    for _ in ("from the database", "from the cache"):
        answer = await user.http.get(f"{API}/{ada.id}", headers=bob.headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json().keys() == {"id", "username", "display_name", "created_at"}
        assert ada.account["email"] not in answer.text


async def test_nobody_is_seen_without_a_token_and_nobody_who_is_not_there(user: Any) -> None:
    ada = await user.sign_in()

    assert (await user.http.get(f"{API}/{ada.id}")).status_code == 401
    assert (await user.http.get(f"{API}/{uuid4()}", headers=ada.headers)).status_code == 404
    assert (await user.http.get(f"{API}/someone", headers=ada.headers)).status_code == 404


async def test_a_deleted_account_is_gone_for_everybody_and_its_names_are_free(replicas: Any, database: Any) -> None:
    first, second = replicas
    ada, bob = await first.sign_in(), await first.sign_in()
    await second.http.get(f"{API}/{ada.id}", headers=bob.headers)

    assert (await first.http.delete(f"{API}/profile", headers=ada.headers)).status_code == 204

    assert (await first.profile(ada)).status_code == 401
    assert (await first.refresh(ada.tokens["refresh_token"])).status_code == 401
    assert (await first.log_in(ada.username)).status_code == 401
    for replica in replicas:
        assert (await replica.http.get(f"{API}/{ada.id}", headers=bob.headers)).status_code == 404
    async with database.connect() as connection:
        for table, column in (("users_read", "id"), ("sessions", "user_id"), ("login_addresses", "user_id")):
            left = await connection.scalar(text(f"SELECT count(*) FROM {table} WHERE {column} = '{ada.id}'"))
            assert left == 0
    assert (await second.register(ada.username)).status_code == 201


async def test_the_token_of_a_deleted_account_gets_401_before_the_other_process_hears_of_its_end(replicas: Any) -> None:
    first, second = replicas
    ada = await first.sign_in()
    await first.http.delete(f"{API}/profile", headers=ada.headers)

    # Nothing has been awaited that would let the other replica hear of it.
    assert (await second.profile(ada)).status_code == 401
    assert (await _patch(second, ada, {"display_name": "Ghost"})).status_code == 401
    assert (await second.http.delete(f"{API}/profile", headers=ada.headers)).status_code == 401


async def test_the_count_follows_every_registration_and_deletion_over_all_replicas(
    replicas: Any, database: Any
) -> None:
    first, second = replicas

    async def count(replica: Any) -> int:
        answer = await replica.http.get(f"{API}/stats/count")
        assert answer.status_code == 200
        assert answer.json().keys() == {"count"}
        return int(answer.json()["count"])

    before = await count(first)
    people = await asyncio.gather(*(replicas[number % 2].sign_in() for number in range(10)))
    assert await count(second) == before + 10

    deletions = [
        replicas[number % 2].http.delete(f"{API}/profile", headers=people[number].headers) for number in range(4)
    ]
    await asyncio.gather(*deletions, first.register(people[9].username))
    assert await count(second) == before + 6
    async with database.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM users_read")) == before + 6


async def test_the_query_model_never_differs_from_the_accounts(replicas: Any, database: Any) -> None:
    """Concurrent changes of the same accounts leave both models equal."""
    ada, bob = await replicas[0].sign_in(), await replicas[0].sign_in()
    changes = [
        _patch(replicas[number % 2], person, {"display_name": f"Name {number}", "email": f"{uuid4().hex}@example.com"})
        for number in range(10)
        for person in (ada, bob)
    ]
    answers = await asyncio.gather(*changes, replicas[0].http.delete(f"{API}/profile", headers=bob.headers))
    assert all(answer.status_code in (200, 204, 401) for answer in answers)

    columns = "id, username, email, display_name, role, created_at"
    async with database.connect() as connection:
        for one, other in (("users", "users_read"), ("users_read", "users")):
            differing = await connection.execute(
                text(f"SELECT {columns} FROM {one} EXCEPT SELECT {columns} FROM {other}")
            )
            assert differing.all() == []


async def test_queries_read_nothing_but_the_query_model(user: Any, sign_in_admin: Any, database: Any) -> None:
    admin = await sign_in_admin(user)
    paths = ("/profile", f"/{admin.id}", "/stats/count", "")
    # A table that somebody has locked exclusively cannot be read.
    async with database.begin() as connection:
        await connection.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
        async with asyncio.timeout(60):
            answers = [await user.http.get(API + path, headers=admin.headers) for path in paths]
    assert [answer.status_code for answer in answers] == [200] * 4
