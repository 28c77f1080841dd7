"""The exchange of API keys for access tokens, and what these tokens may do."""

import asyncio
import base64
from collections import Counter
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID, uuid4

import jwt
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from servicekit.auth.revoked_sessions import RevokedSessions
from user_service.api_keys.rules import new_secret

API = "/api/v1/users"
KEYS = f"{API}/api-keys"


async def _create(replica: Any, who: Any, **fields: Any) -> dict[str, Any]:
    body = {"name": "export", "scopes": ["users:read"]} | fields
    response = await replica.http.post(KEYS, json=body, headers=who.headers)
    assert response.status_code == 201, response.text
    key: dict[str, Any] = response.json()
    return key


async def _exchange(replica: Any, key: Any, *, address: str = "192.0.2.1", **fields: Any) -> Any:
    form = {"grant_type": "client_credentials", "client_id": key["id"], "client_secret": key["secret"]} | fields
    return await replica.http.post(f"{API}/token", data=form, headers=replica.at(address))


async def _bearer(replica: Any, key: Any, **fields: Any) -> dict[str, str]:
    response = await _exchange(replica, key, **fields)
    assert response.status_code == 200, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def _profile(replica: Any, bearer: dict[str, str]) -> int:
    return int((await replica.http.get(f"{API}/profile", headers=bearer)).status_code)


async def _until_refused(replica: Any, bearer: dict[str, str]) -> None:
    async with asyncio.timeout(60):
        while await _profile(replica, bearer) != 401:
            await asyncio.sleep(0.02)


def _code(response: Any) -> tuple[int, str, str | None]:
    body = response.json()
    return response.status_code, body["type"].removeprefix("urn:baseplate:problem:"), body.get("error")


async def test_a_key_gets_an_access_token_with_its_scopes_and_nothing_else(replica: Any) -> None:
    ada = await replica.sign_in_admin()
    key = await _create(replica, ada)

    response = await _exchange(replica, key)

    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    token = body.pop("access_token")
    assert body == {"token_type": "bearer", "expires_in": 900, "scope": "users:read"}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["sid"], claims["scope"]) == (ada.id, key["id"], "users:read")
    # An administrator's key is no administrator.
    assert claims["roles"] == []
    # Processes of the version before accept `at+jwt` only, and would ignore the scopes.
    assert jwt.get_unverified_header(token)["typ"] == "application/at+jwt"


@pytest.mark.parametrize("encode", [str, quote_plus], ids=["as it is", "encoded as in a form"])
async def test_credentials_may_come_by_http_basic(replica: Any, encode: Any) -> None:
    key = await _create(replica, await replica.sign_in())
    text_ = f"{encode(key['id'])}:{encode(key['secret'])}"
    headers = {"Authorization": f"Basic {base64.b64encode(text_.encode()).decode()}"}
    form = {"grant_type": "client_credentials", "scope": "users:read"}

    response = await replica.http.post(f"{API}/token", data=form, headers=headers)
    assert (response.status_code, response.json()["scope"]) == (200, "users:read")

    twice = await replica.http.post(f"{API}/token", data=form | {"client_id": key["id"]}, headers=headers)
    assert _code(twice) == (400, "invalid-token-request", "invalid_request")
    # A client of another grant has no credentials, and may send what it likes.
    login = {"grant_type": "password", "username": "nobody", "password": "x"}
    assert _code(await replica.http.post(f"{API}/token", data=login, headers=headers))[1] == "invalid-credentials"


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic bm9jb2xvbg==", "Basic /w==", "basic Og=="])
async def test_wrong_basic_credentials_are_refused_in_their_own_scheme(replica: Any, header: str) -> None:
    form = {"grant_type": "client_credentials"}
    refused = await replica.http.post(f"{API}/token", data=form, headers={"Authorization": header})

    assert _code(refused) == (401, "invalid-client", "invalid_client")
    assert header == "Basic" or refused.headers["www-authenticate"] == 'Basic realm="API keys"'


async def test_a_forged_secret_and_another_accounts_key_get_one_text(replica: Any) -> None:
    ada, mallory = await replica.sign_in(), await replica.sign_in()
    hers, his = await _create(replica, ada), await _create(replica, mallory)
    stranger = uuid4()
    forged: list[dict[str, str]] = [
        {"client_secret": new_secret(UUID(hers["id"]))},
        {"client_secret": his["secret"]},
        {"client_id": his["id"]},
        {"client_secret": hers["secret"][:-1] + "x"},
        {"client_id": str(stranger), "client_secret": new_secret(stranger)},
        {"client_secret": hers["secret"].replace(hers["id"], his["id"])},
        {"client_secret": ""},
        {"client_id": "", "client_secret": ""},
    ]
    responses = [await _exchange(replica, hers, **fields) for fields in forged]

    assert {_code(response) for response in responses} == {(401, "invalid-client", "invalid_client")}
    assert len({response.json()["detail"] for response in responses}) == 1


@pytest.mark.needs("notes")
async def test_a_token_never_has_more_scopes_than_its_key(replica: Any) -> None:
    key = await _create(replica, await replica.sign_in(), scopes=["notes:read"])

    for wider in ("notes:read notes:write", "users:read", "*", "notes:read\tusers:read"):
        assert _code(await _exchange(replica, key, scope=wider)) == (400, "invalid-scope", "invalid_scope")
    refused = await replica.http.get(f"{API}/profile", headers=await _bearer(replica, key))
    assert refused.status_code == 403
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="users:read"'


async def test_a_key_may_use_only_routes_that_declare_a_scope(replica: Any) -> None:
    """Every route of the document, as an administrator's key with all scopes: it cannot make keys or change a thing."""
    document = (await replica.http.get("/openapi.json")).json()
    (scheme,) = document["components"]["securitySchemes"].values()
    scopes = list(scheme["flows"]["clientCredentials"]["scopes"])
    bearer = await _bearer(replica, await _create(replica, await replica.sign_in_admin(), scopes=scopes))
    allowed, refused = set(), set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "security" in operation and path != f"{API}/logout":
                target = path.format(user_id=uuid4(), session_id=uuid4(), key_id=uuid4(), invitation_id=uuid4())
                response = await replica.http.request(method, target, headers=bearer, json={})
                is_refused = _code(response)[1] == "insufficient-scope" if response.status_code == 403 else False
                (refused if is_refused else allowed).add(f"{method} {path.removeprefix(API)}")

    assert allowed == {"get /profile", "get /{user_id}"}
    assert {"post /api-keys", "delete /profile", "post /password", "get ", "put /{user_id}/role"} <= refused
    assert _code(await replica.http.post(f"{API}/logout", headers=bearer))[1] == "insufficient-scope"


async def test_a_deleted_key_and_its_tokens_are_refused_by_all_processes(replicas: Any, valkey_url: str) -> None:
    first, second = replicas
    ada = await first.sign_in()
    key, other = await _create(first, ada), await _create(first, ada)
    bearer, kept = await _bearer(second, key), await _bearer(second, other)
    assert await _profile(second, bearer) == 200
    async with Redis.from_url(valkey_url) as client:
        listener = RevokedSessions(client)

        deleted = await first.http.delete(f"{KEYS}/{key['id']}", headers=ada.headers)

        assert deleted.status_code == 204
        assert await _profile(first, bearer) == 401
        await _until_refused(second, bearer)
        async with asyncio.timeout(60):
            while not listener.revokes_one(UUID(key["id"])):
                await listener.refresh()
                await asyncio.sleep(0.02)
    for replica in replicas:
        assert _code(await _exchange(replica, key))[1] == "invalid-client"
    assert (await first.http.delete(f"{KEYS}/{key['id']}", headers=ada.headers)).status_code == 404
    assert await _profile(second, kept) == 200


async def test_exchanges_during_a_deletion_leave_no_valid_token(replicas: Any) -> None:
    first, second = replicas
    ada = await first.sign_in()
    for _ in range(3):
        key = await _create(first, ada)
        path = f"{KEYS}/{key['id']}"
        exchanges = [_exchange(replicas[number % 2], key, address=f"192.0.2.{number}") for number in range(20)]
        deletions = [replicas[number % 2].http.delete(path, headers=ada.headers) for number in range(4)]
        responses = await asyncio.gather(*exchanges[:10], *deletions, *exchanges[10:])

        assert Counter(response.status_code for response in responses[10:14]) == {204: 1, 404: 3}
        issued = [response.json() for response in responses if response.status_code == 200]
        assert {response.status_code for response in responses} <= {200, 204, 401, 404}
        for body in issued:
            bearer = {"Authorization": f"Bearer {body['access_token']}"}
            await _until_refused(first, bearer)
            await _until_refused(second, bearer)


async def test_concurrent_exchanges_all_pass_and_the_use_is_written_once_a_minute(
    replicas: Any, database: Any, clock: Any
) -> None:
    ada = await replicas[0].sign_in()
    key = await _create(replicas[0], ada)
    clock.stopped_at = clock()

    async def use(times: int) -> tuple[Any, Any]:
        """Return the row's version and the last use after so many exchanges at once."""
        responses = await asyncio.gather(*(_exchange(replicas[number % 2], key) for number in range(times)))
        assert {response.status_code for response in responses} == {200}
        query = text("SELECT xmin::text, last_used_at FROM api_keys WHERE id = :id")
        async with database.connect() as connection:
            version, at = (await connection.execute(query, {"id": UUID(key["id"])})).one()
        return version, at

    first = await use(20)
    assert first[1] == clock()
    clock.advance(seconds=59)
    assert await use(5) == first
    clock.advance(seconds=1)
    assert (await use(5))[1] == clock()


async def test_an_expired_key_is_refused_and_no_token_outlives_its_key(replica: Any, clock: Any) -> None:
    ada = await replica.sign_in()
    key = await _create(replica, ada, expires_at=(clock() + timedelta(minutes=20)).isoformat())
    assert (await _exchange(replica, key)).json()["expires_in"] == 900

    clock.advance(minutes=10)
    late = (await _exchange(replica, key)).json()
    assert 590 <= late["expires_in"] <= 600
    claims = jwt.decode(late["access_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == late["expires_in"]

    clock.advance(minutes=10)
    assert _code(await _exchange(replica, key)) == (401, "invalid-client", "invalid_client")


async def test_wrong_secrets_are_counted_by_address_over_replicas(replicas: Any) -> None:
    key = await _create(replicas[0], await replicas[0].sign_in())
    wrong = {**key, "secret": new_secret(UUID(key["id"]))}

    guesses = await asyncio.gather(
        *(_exchange(replicas[number % 2], wrong, address="203.0.113.7") for number in range(120))
    )

    assert Counter(response.status_code for response in guesses) == {401: 100, 429: 20}
    refused = await _exchange(replicas[0], key, address="203.0.113.7")
    assert _code(refused)[1] == "too-many-failures"
    assert 0 < int(refused.headers["retry-after"]) <= 15 * 60
    assert (await _exchange(replicas[1], key, address="203.0.113.8")).status_code == 200
    # Logins from there have a count of their own.
    ada = await replicas[0].sign_in()
    assert (await replicas[0].log_in(ada.username, address="203.0.113.7")).status_code == 200


async def test_a_key_survives_a_new_password_and_a_logout_everywhere_but_not_the_administrator(replica: Any) -> None:
    ada, admin = await replica.sign_in(), await replica.sign_in_admin()
    key = await _create(replica, ada)
    bearer = await _bearer(replica, key)
    # So many sessions end by one announcement for the whole account.
    for _ in range(12):
        await replica.log_in_again(ada)

    changed = await replica.http.post(
        f"{API}/password",
        json={"current_password": ada.password, "new_password": "another correct horse"},
        headers=ada.headers,
    )
    assert changed.status_code == 204
    assert await _profile(replica, bearer) == 200

    ended = await replica.http.delete(f"{API}/{ada.id}/sessions", headers=admin.headers)
    assert ended.status_code == 204
    assert await _profile(replica, bearer) == 401
    assert _code(await _exchange(replica, key))[1] == "invalid-client"


async def test_keys_go_with_their_account(replicas: Any, database: Any) -> None:
    first, second = replicas
    ada = await first.sign_in()
    key = await _create(first, ada)
    bearer = await _bearer(first, key)

    assert (await first.http.delete(f"{API}/profile", headers=ada.headers)).status_code == 204

    assert await _profile(first, bearer) == 401
    await _until_refused(second, bearer)
    assert _code(await _exchange(second, key))[1] == "invalid-client"
    async with database.connect() as connection:
        left = text("SELECT count(*) FROM api_keys WHERE id = :id")
        assert await connection.scalar(left, {"id": UUID(key["id"])}) == 0


async def test_the_sessions_of_an_account_do_not_list_its_keys(replica: Any) -> None:
    ada = await replica.sign_in()
    await _bearer(replica, await _create(replica, ada))

    sessions = (await replica.http.get(f"{API}/sessions", headers=ada.headers)).json()["items"]
    assert [session["current"] for session in sessions] == [True]
