"""What only administrators may do."""

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
async def test_a_user_may_administer_no_account_not_even_the_own_one(
    replica: Any, method: str, path: str, body: Any
) -> None:
    ada, bob = await replica.sign_in(), await replica.sign_in()

    for target in (ada.id, bob.id, str(uuid4())):
        url = API + path.format(id=target)
        assert (await replica.http.request(method, url, json=body, headers=ada.headers)).status_code == 403
        assert (await replica.http.request(method, url, json=body)).status_code == 401
    assert (await replica.profile(bob)).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), ROUTES[1:])
async def test_an_unknown_account_is_not_found(replica: Any, method: str, path: str, body: Any) -> None:
    admin = await replica.sign_in_admin()

    response = await replica.http.request(method, API + path.format(id=uuid4()), json=body, headers=admin.headers)

    assert response.status_code == 404


async def test_the_list_shows_every_account_once_with_the_newest_first(replica: Any) -> None:
    admin = await replica.sign_in_admin()
    people = [await replica.register() for _ in range(7)]
    expected = [response.json()["id"] for response in reversed(people)]

    seen: list[dict[str, Any]] = []
    cursor = None
    while True:
        parameters = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = await replica.http.get(API, params=parameters, headers=admin.headers)
        assert page.status_code == 200
        seen += page.json()["items"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break
        assert len(page.json()["items"]) == 3

    assert [account["id"] for account in seen][:7] == expected
    assert seen[0].keys() == {"id", "username", "email", "email_verified", "display_name", "role", "created_at"}
    assert len({account["id"] for account in seen}) == len(seen)
    assert len(seen) == (await replica.http.get(f"{API}/stats/count")).json()["count"]


@pytest.mark.parametrize(
    "parameters", [{"cursor": "forged"}, {"cursor": "WyJub25lIl0"}, {"cursor": "x" * 600}, {"limit": 0}, {"limit": 101}]
)
async def test_a_forged_cursor_or_limit_is_refused(replica: Any, parameters: Any) -> None:
    admin = await replica.sign_in_admin()

    response = await replica.http.get(API, params=parameters, headers=admin.headers)

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_new_role_revokes_the_accounts_sessions_and_is_in_its_next_token(replica: Any) -> None:
    admin, ada = await replica.sign_in_admin(), await replica.sign_in()
    assert (await replica.http.get(API, headers=ada.headers)).status_code == 403

    response = await replica.http.put(f"{API}/{ada.id}/role", json={"role": "admin"}, headers=admin.headers)

    assert response.status_code == 200
    assert response.json() == {**ada.account, "role": "admin"}
    assert (await replica.profile(ada)).status_code == 401
    assert (await replica.refresh(ada.tokens["refresh_token"])).status_code == 401
    again = await replica.log_in_again(ada)
    assert (await replica.profile(again)).json()["role"] == "admin"
    assert (await replica.http.get(API, headers=again.headers)).status_code == 200

    await replica.http.put(f"{API}/{ada.id}/role", json={"role": "user"}, headers=admin.headers)
    assert (await replica.http.get(API, headers=again.headers)).status_code == 401


@pytest.mark.parametrize("body", [{"role": "root"}, {"role": None}, {}, {"role": "admin", "id": "1"}])
async def test_other_roles_are_refused(replica: Any, body: Any) -> None:
    admin, ada = await replica.sign_in_admin(), await replica.sign_in()

    assert (await replica.http.put(f"{API}/{ada.id}/role", json=body, headers=admin.headers)).status_code == 422


async def test_no_session_with_the_old_role_survives_a_change(replicas: Any) -> None:
    """A login either sees the change, or its session is revoked by it."""
    admin, ada = await replicas[0].sign_in_admin(), await replicas[0].sign_in()
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


async def test_an_administrator_revokes_all_sessions_of_an_account(replica: Any) -> None:
    admin, ada = await replica.sign_in_admin(), await replica.sign_in()
    other = await replica.log_in_again(ada)

    response = await replica.http.delete(f"{API}/{ada.id}/sessions", headers=admin.headers)

    assert response.status_code == 204
    for session in (ada, other):
        assert (await replica.profile(session)).status_code == 401
        assert (await replica.refresh(session.tokens["refresh_token"])).status_code == 401
    assert (await replica.log_in(ada.username)).status_code == 200


async def test_an_administrator_deletes_an_account(replica: Any) -> None:
    admin, ada = await replica.sign_in_admin(), await replica.sign_in()

    assert (await replica.http.delete(f"{API}/{ada.id}", headers=admin.headers)).status_code == 204

    assert (await replica.profile(ada)).status_code == 401
    assert (await replica.http.get(f"{API}/{ada.id}", headers=admin.headers)).status_code == 404
    assert (await replica.http.delete(f"{API}/{ada.id}", headers=admin.headers)).status_code == 404
