"""A user's own account, and how other users see it."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

API = "/api/v1/users"


async def _patch(replica: Any, signed_in: Any, body: Any) -> Any:
    return await replica.http.patch(f"{API}/profile", json=body, headers=signed_in.headers)


async def test_the_profile_is_the_account_as_it_was_registered(replica: Any) -> None:
    signed_in = await replica.sign_in()

    response = await replica.profile(signed_in)

    assert response.status_code == 200
    assert response.json() == signed_in.account


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


async def test_an_empty_change_changes_nothing(replica: Any) -> None:
    ada = await replica.sign_in()

    response = await _patch(replica, ada, {})

    assert response.status_code == 200
    assert response.json() == ada.account


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
async def test_a_profile_takes_no_other_fields_and_no_bad_values(replica: Any, body: Any) -> None:
    ada = await replica.sign_in()

    assert (await _patch(replica, ada, body)).status_code == 422
    assert (await replica.profile(ada)).json() == ada.account


async def test_the_address_of_another_account_is_refused_and_nothing_changes(replica: Any) -> None:
    ada, bob = await replica.sign_in(), await replica.sign_in()

    response = await _patch(replica, ada, {"email": bob.account["email"].upper(), "display_name": "Thief"})

    assert response.status_code == 409
    assert response.json()["errors"] == [{"field": "body.email", "message": "taken"}]
    assert (await replica.profile(ada)).json() == ada.account


async def test_one_of_several_concurrent_changes_gets_an_address(replicas: Any) -> None:
    people = [await replicas[0].sign_in() for _ in range(6)]
    wanted = f"{uuid4().hex[:8]}@example.com"

    responses = await asyncio.gather(
        *(_patch(replicas[number % 2], person, {"email": wanted}) for number, person in enumerate(people))
    )

    assert Counter(response.status_code for response in responses) == {200: 1, 409: 5}


async def test_a_login_takes_the_new_address_and_not_the_old_one(replica: Any) -> None:
    ada = await replica.sign_in()
    await _patch(replica, ada, {"email": f"new-{ada.username}@example.com"})

    assert (await replica.log_in(f"NEW-{ada.username}@example.com")).status_code == 200
    assert (await replica.log_in(ada.account["email"])).status_code == 401


async def test_other_users_see_neither_the_address_nor_the_role(replica: Any) -> None:
    ada, bob = await replica.sign_in(), await replica.sign_in()

    for _ in ("from the database", "from the cache"):
        response = await replica.http.get(f"{API}/{ada.id}", headers=bob.headers)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.json().keys() == {"id", "username", "display_name", "created_at"}
        assert ada.account["email"] not in response.text


async def test_an_account_is_shown_only_with_a_token_and_only_if_it_exists(replica: Any) -> None:
    ada = await replica.sign_in()

    assert (await replica.http.get(f"{API}/{ada.id}")).status_code == 401
    assert (await replica.http.get(f"{API}/{uuid4()}", headers=ada.headers)).status_code == 404
    assert (await replica.http.get(f"{API}/someone", headers=ada.headers)).status_code == 404


async def test_a_deleted_account_is_gone_on_all_replicas_and_its_names_are_free(replicas: Any, database: Any) -> None:
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


async def test_another_process_refuses_the_token_of_a_deleted_account_before_it_learns_of_the_revocation(
    replicas: Any,
) -> None:
    first, second = replicas
    ada = await first.sign_in()
    await first.http.delete(f"{API}/profile", headers=ada.headers)

    # Nothing was awaited in which the other replica could learn of the revocation.
    assert (await second.profile(ada)).status_code == 401
    assert (await _patch(second, ada, {"display_name": "Ghost"})).status_code == 401
    assert (await second.http.delete(f"{API}/profile", headers=ada.headers)).status_code == 401


async def test_the_count_follows_every_registration_and_deletion_over_all_replicas(
    replicas: Any, database: Any
) -> None:
    first, second = replicas

    async def count(replica: Any) -> int:
        response = await replica.http.get(f"{API}/stats/count")
        assert response.status_code == 200
        assert response.json().keys() == {"count"}
        return int(response.json()["count"])

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


async def test_the_read_model_never_differs_from_the_accounts(replicas: Any, database: Any) -> None:
    """Concurrent changes of the same accounts leave the write model and the read model equal."""
    ada, bob = await replicas[0].sign_in(), await replicas[0].sign_in()
    changes = [
        _patch(replicas[number % 2], person, {"display_name": f"Name {number}", "email": f"{uuid4().hex}@example.com"})
        for number in range(10)
        for person in (ada, bob)
    ]
    responses = await asyncio.gather(*changes, replicas[0].http.delete(f"{API}/profile", headers=bob.headers))
    assert all(response.status_code in (200, 204, 401) for response in responses)

    columns = "id, username, email, display_name, role, created_at"
    # Other tests change one of the tables by hand.
    these = f"WHERE id IN ('{ada.id}', '{bob.id}')"
    async with database.connect() as connection:
        for one, other in (("users", "users_read"), ("users_read", "users")):
            differing = await connection.execute(
                text(f"SELECT {columns} FROM {one} {these} EXCEPT SELECT {columns} FROM {other}")
            )
            assert differing.all() == []


async def test_queries_read_only_the_read_model(replica: Any, database: Any) -> None:
    admin = await replica.sign_in_admin()
    paths = ("/profile", f"/{admin.id}", "/stats/count", "")
    # An exclusively locked table cannot be read.
    async with database.begin() as connection:
        await connection.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
        async with asyncio.timeout(60):
            responses = [await replica.http.get(API + path, headers=admin.headers) for path in paths]
    assert [response.status_code for response in responses] == [200] * 4


async def test_an_address_is_verified_until_it_changes_whichever_version_changes_it(
    replica: Any, database: Any
) -> None:
    ada = await replica.sign_in()
    assert ada.account["email_verified"] is False

    # The version before leaves the column of the verified address alone.
    for change, verified in (("verified_email = email", True), ("email = 'new-' || email", False)):
        async with database.begin() as connection:
            for table in ("users", "users_read"):
                await connection.execute(text(f"UPDATE {table} SET {change} WHERE id = '{ada.id}'"))
        assert (await replica.profile(ada)).json()["email_verified"] is verified
        patched = await _patch(replica, ada, {"display_name": "Ada"})
        assert patched.json()["email_verified"] is verified
    assert "email_verified" not in (await replica.http.get(f"{API}/{ada.id}", headers=ada.headers)).json()


async def test_notes_gets_the_public_view_of_an_author_until_the_account_is_deleted(replica: Any) -> None:
    ada = await replica.sign_in()

    async def ask(caller: str = "notes") -> Any:
        return await replica.service(caller).call("GET", f"/internal/accounts/{ada.id}")

    assert (await ask()).json() == {
        name: ada.account[name] for name in ("id", "username", "display_name", "created_at")
    }
    assert (await ask("analytics")).status == 403
    assert (await replica.http.get(f"/internal/accounts/{ada.id}", headers=ada.headers)).status_code == 401

    assert (await replica.http.delete(f"{API}/profile", headers=ada.headers)).status_code == 204
    assert (await ask()).status == 404
