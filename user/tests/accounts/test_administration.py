"""What administrators may do, and nobody else."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

API = "/api/v1/users"
ROUTES = [
    ("GET", "", None),
    ("DELETE", "/{id}", None),
    ("PUT", "/{id}/role", {"role": "admin"}),
    ("DELETE", "/{id}/sessions", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_a_user_may_not_administer_even_himself(user: Any, method: str, path: str, body: Any) -> None:
    ada, bob = await user.sign_in(), await user.sign_in()

    for target in (ada.id, bob.id, str(uuid4())):
        url = API + path.format(id=target)
        assert (await user.http.request(method, url, json=body, headers=ada.headers)).status_code == 403
        assert (await user.http.request(method, url, json=body)).status_code == 401
    assert (await user.profile(bob)).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), ROUTES[1:])
async def test_an_account_that_is_not_there_is_not_found(
    user: Any, sign_in_admin: Any, method: str, path: str, body: Any
) -> None:
    admin = await sign_in_admin(user)

    answer = await user.http.request(method, API + path.format(id=uuid4()), json=body, headers=admin.headers)

    assert answer.status_code == 404


async def test_the_list_shows_every_account_once_the_newest_first(user: Any, sign_in_admin: Any) -> None:
    admin = await sign_in_admin(user)
    people = [await user.register() for _ in range(7)]
    expected = [answer.json()["id"] for answer in reversed(people)]

    seen: list[dict[str, Any]] = []
    cursor = None
    while True:
        parameters = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = await user.http.get(API, params=parameters, headers=admin.headers)
        assert page.status_code == 200
        seen += page.json()["items"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break
        assert len(page.json()["items"]) == 3

    assert [account["id"] for account in seen][:7] == expected
    assert seen[0].keys() == {"id", "username", "email", "display_name", "role", "created_at"}
    assert len({account["id"] for account in seen}) == len(seen)
    assert len(seen) == (await user.http.get(f"{API}/stats/count")).json()["count"]


@pytest.mark.parametrize(
    "parameters", [{"cursor": "forged"}, {"cursor": "WyJub25lIl0"}, {"cursor": "x" * 600}, {"limit": 0}, {"limit": 101}]
)
async def test_a_forged_cursor_or_limit_is_refused(user: Any, sign_in_admin: Any, parameters: Any) -> None:
    admin = await sign_in_admin(user)

    answer = await user.http.get(API, params=parameters, headers=admin.headers)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_new_role_ends_the_accounts_sessions_and_is_in_its_next_token(user: Any, sign_in_admin: Any) -> None:
    admin, ada = await sign_in_admin(user), await user.sign_in()
    assert (await user.http.get(API, headers=ada.headers)).status_code == 403

    answer = await user.http.put(f"{API}/{ada.id}/role", json={"role": "admin"}, headers=admin.headers)

    assert answer.status_code == 200
    assert answer.json() == {**ada.account, "role": "admin"}
    assert (await user.profile(ada)).status_code == 401
    assert (await user.refresh(ada.tokens["refresh_token"])).status_code == 401
    again = await user.log_in_again(ada)
    assert (await user.profile(again)).json()["role"] == "admin"
    assert (await user.http.get(API, headers=again.headers)).status_code == 200

    await user.http.put(f"{API}/{ada.id}/role", json={"role": "user"}, headers=admin.headers)
    assert (await user.http.get(API, headers=again.headers)).status_code == 401


async def test_the_role_that_an_account_has_already_ends_nothing(user: Any, sign_in_admin: Any) -> None:
    admin, ada = await sign_in_admin(user), await user.sign_in()

    answer = await user.http.put(f"{API}/{ada.id}/role", json={"role": "user"}, headers=admin.headers)

    assert answer.status_code == 200
    assert (await user.profile(ada)).status_code == 200


@pytest.mark.parametrize("body", [{"role": "root"}, {"role": None}, {}, {"role": "admin", "id": "1"}])
async def test_there_are_no_other_roles(user: Any, sign_in_admin: Any, body: Any) -> None:
    admin, ada = await sign_in_admin(user), await user.sign_in()

    assert (await user.http.put(f"{API}/{ada.id}/role", json=body, headers=admin.headers)).status_code == 422


async def test_no_login_slips_past_a_change_of_role(replicas: Any, sign_in_admin: Any) -> None:
    """Whichever comes first, no session with the old role survives."""
    admin, ada = await sign_in_admin(replicas[0]), await replicas[0].sign_in()
    roles = ["admin", "user"] * 3

    for role in roles:
        logins, _ = await asyncio.gather(
            asyncio.gather(*(replicas[number % 2].log_in(ada.username) for number in range(4))),
            replicas[0].http.put(f"{API}/{ada.id}/role", json={"role": role}, headers=admin.headers),
        )
        for login in logins:
            assert login.status_code == 200
            refreshed = await replicas[1].refresh(login.json()["refresh_token"])
            if refreshed.status_code == 200:
                headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
                allowed = (await replicas[1].http.get(API, headers=headers)).status_code == 200
                assert allowed == (role == "admin")


async def test_an_administrator_ends_all_sessions_of_an_account(user: Any, sign_in_admin: Any) -> None:
    admin, ada = await sign_in_admin(user), await user.sign_in()
    other = await user.log_in_again(ada)

    answer = await user.http.delete(f"{API}/{ada.id}/sessions", headers=admin.headers)

    assert answer.status_code == 204
    for session in (ada, other):
        assert (await user.profile(session)).status_code == 401
        assert (await user.refresh(session.tokens["refresh_token"])).status_code == 401
    assert (await user.log_in(ada.username)).status_code == 200


async def test_an_administrator_deletes_an_account(user: Any, sign_in_admin: Any) -> None:
    admin, ada = await sign_in_admin(user), await user.sign_in()

    assert (await user.http.delete(f"{API}/{ada.id}", headers=admin.headers)).status_code == 204

    assert (await user.profile(ada)).status_code == 401
    assert (await user.http.get(f"{API}/{ada.id}", headers=admin.headers)).status_code == 404
    assert (await user.http.delete(f"{API}/{ada.id}", headers=admin.headers)).status_code == 404
