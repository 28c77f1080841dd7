"""Making, listing and deleting one's own API keys."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from servicekit.storage.postgres_models import sessions_of
from user_service.upkeep import Upkeep

API = "/api/v1/users"
KEYS = f"{API}/api-keys"


async def _create(replica: Any, who: Any, **fields: Any) -> Any:
    return await replica.http.post(
        KEYS, json={"name": "export", "scopes": ["users:read"]} | fields, headers=who.headers
    )


async def _list(replica: Any, who: Any, query: str = "") -> Any:
    return (await replica.http.get(KEYS + query, headers=who.headers)).json()


@pytest.mark.needs("notes", "assets")
async def test_a_key_shows_its_secret_once(replica: Any, database: Any) -> None:
    ada = await replica.sign_in()
    expiry = datetime.now(UTC) + timedelta(days=30)

    created = await _create(
        replica, ada, name="  nightly   export ", scopes=["assets:read", "notes:read"], expires_at=expiry.isoformat()
    )

    assert created.status_code == 201
    assert created.headers["cache-control"] == "no-store"
    key = created.json()
    secret = key.pop("secret")
    assert secret.startswith(f"bp_{key['id']}_")
    assert (key["name"], key["scopes"], key["last_used_at"]) == ("nightly export", ["notes:read", "assets:read"], None)
    assert datetime.fromisoformat(key["expires_at"]) == expiry
    shown = await replica.http.get(created.headers["location"], headers=ada.headers)
    assert shown.json() == key
    assert (await _list(replica, ada)) == {"items": [key], "next_cursor": None}
    async with database.connect() as connection:
        rows = await connection.execute(text("SELECT * FROM api_keys WHERE user_id = :id"), {"id": UUID(ada.id)})
        assert not {secret, secret.encode()} & set(map(str, rows.one()))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"name": " "}, "body.name"),
        ({"name": "x" * 101}, "body.name"),
        ({"scopes": []}, "body.scopes"),
        ({"scopes": ["users:read", "users:write"]}, "body.scopes"),
        ({"scopes": ["*"]}, "body.scopes"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "body.expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "body.expires_at"),
        ({"expires_at": 4102444800}, "body.expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-12:00"}, "body.expires_at"),
        ({"user_id": str(uuid4())}, "body.user_id"),
    ],
    ids=[
        "no name",
        "a long name",
        "no scope",
        "an unknown scope",
        "a pattern",
        "in the past",
        "no offset",
        "a number",
        "after the calendar",
        "an unknown field",
    ],
)
async def test_an_unacceptable_key_is_refused(replica: Any, fields: dict[str, Any], fault: str) -> None:
    ada = await replica.sign_in()

    refused = await _create(replica, ada, **fields)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == fault
    assert (await _list(replica, ada))["items"] == []


async def test_an_account_gets_fifty_keys_however_many_it_asks_for_at_once(replicas: Any) -> None:
    ada = await replicas[0].sign_in()

    responses = await asyncio.gather(*(_create(replicas[number % 2], ada) for number in range(60)))

    assert Counter(response.status_code for response in responses) == {201: 50, 409: 10}
    refused = next(response for response in responses if response.status_code == 409)
    assert refused.json()["type"] == "urn:baseplate:problem:too-many-api-keys"
    first = await _list(replicas[0], ada, "?limit=30")
    second = await _list(replicas[1], ada, f"?limit=30&cursor={first['next_cursor']}")
    ids = [key["id"] for key in first["items"] + second["items"]]
    assert len(set(ids)) == 50
    assert ids == sorted(ids, reverse=True)
    assert second["next_cursor"] is None

    assert (await replicas[0].http.delete(f"{KEYS}/{ids[0]}", headers=ada.headers)).status_code == 204
    assert (await _create(replicas[1], ada)).status_code == 201


async def test_another_accounts_key_does_not_exist(replica: Any) -> None:
    ada, mallory = await replica.sign_in(), await replica.sign_in()
    key = (await _create(replica, ada)).json()
    path = f"{KEYS}/{key['id']}"

    assert (await replica.http.get(path, headers=mallory.headers)).status_code == 404
    assert (await replica.http.delete(path, headers=mallory.headers)).status_code == 404
    assert (await _list(replica, mallory))["items"] == []
    assert (await replica.http.get(path, headers=ada.headers)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_stranger_learns_nothing(replica: Any, method: str) -> None:
    path = f"{KEYS}/{uuid4()}" if method == "DELETE" else KEYS

    assert (await replica.http.request(method, path, content=b"x" * 100_000)).status_code == 401


async def test_the_token_of_a_deleted_account_makes_no_key(replicas: Any) -> None:
    """The other process may not know yet that the session has ended."""
    first, second = replicas
    ada = await first.sign_in()
    deletion, *creations = await asyncio.gather(
        first.http.delete(f"{API}/profile", headers=ada.headers), *(_create(second, ada) for _ in range(5))
    )

    assert deletion.status_code == 204
    assert {response.status_code for response in creations} <= {201, 401}
    assert (await _create(second, ada)).status_code == 401


async def test_an_expired_key_stays_in_the_list_for_a_month(replica: Any, database: Any, clock: Any) -> None:
    ada = await replica.sign_in()
    await _create(replica, ada, expires_at=(clock() + timedelta(hours=1)).isoformat())
    lasting = (await _create(replica, ada)).json()["id"]
    upkeep = Upkeep(sessions_of(database), clock=clock)

    clock.advance(days=30)
    await upkeep.delete_expired()
    assert await _ids(database, ada) != [lasting]

    clock.advance(hours=2)
    await upkeep.delete_expired()
    assert await _ids(database, ada) == [lasting]


async def _ids(database: Any, who: Any) -> list[str]:
    async with database.connect() as connection:
        rows = await connection.scalars(text("SELECT id FROM api_keys WHERE user_id = :id"), {"id": UUID(who.id)})
        return [str(id_) for id_ in rows]
