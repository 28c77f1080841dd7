"""A revoked session is refused by every process, also after an outage of Valkey."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from servicekit.auth import revoked_sessions
from servicekit.auth.revoked_sessions import RevokedSessions
from user_service.sessions import announcements

API = "/api/v1/users"


def _session_id(signed_in: Any) -> UUID:
    claims = jwt.decode(signed_in.tokens["access_token"], options={"verify_signature": False})
    return UUID(claims["sid"])


async def _log_out(replica: Any, who: Any, body: Any = None) -> Any:
    return await replica.http.post(f"{API}/logout", headers=who.headers if who else {}, json=body)


def test_every_process_looks_for_revocations_more_than_once_a_second() -> None:
    """The tests below show that a revocation arrives; this shows how soon, on a machine that is not overloaded."""
    assert announcements.PAUSE_SECONDS + revoked_sessions.POLL_SECONDS < 1


async def _until_refused(replica: Any, who: Any) -> None:
    async with asyncio.timeout(60):
        while (await replica.profile(who)).status_code != 401:
            await asyncio.sleep(0.02)


async def test_a_logout_takes_effect_at_once_in_its_process_and_soon_in_the_other(replicas: Any) -> None:
    first, second = replicas
    ada = await first.sign_in()
    assert (await second.profile(ada)).status_code == 200

    assert (await _log_out(first, ada)).status_code == 204

    assert (await first.profile(ada)).status_code == 401
    await _until_refused(second, ada)
    for replica in replicas:
        assert (await replica.refresh(ada.tokens["refresh_token"])).status_code == 401


async def test_every_other_service_learns_of_a_logout(replica: Any, valkey_url: str) -> None:
    ada = await replica.sign_in()
    async with Redis.from_url(valkey_url) as client:
        listener = RevokedSessions(client)
        await listener.refresh()
        await _log_out(replica, ada)

        async with asyncio.timeout(60):
            while not listener.revokes(uuid4(), _session_id(ada), time.time()):
                await asyncio.sleep(0.02)
                await listener.refresh()


async def test_a_refresh_token_alone_logs_out_even_a_second_time(replica: Any) -> None:
    ada = await replica.sign_in()
    body = {"refresh_token": ada.tokens["refresh_token"]}

    for _ in range(2):
        assert (await _log_out(replica, None, body)).status_code == 204
    assert (await replica.profile(ada)).status_code == 401
    assert (await _log_out(replica, None, {"refresh_token": "never issued"})).status_code == 204


async def test_an_empty_logout_body_counts_as_none(replica: Any) -> None:
    for body in ({}, {"refresh_token": None}, None):
        ada = await replica.sign_in()
        assert (await _log_out(replica, ada, body)).status_code == 204
        assert (await replica.profile(ada)).status_code == 401


async def test_a_logout_without_any_token_or_with_other_fields_is_refused(replica: Any) -> None:
    assert (await _log_out(replica, None)).status_code == 401
    assert (await replica.http.post(f"{API}/logout", json={"everywhere": True})).status_code == 422


INVALID = {
    "expired": "Bearer {expired}",
    "malformed": "Bearer a.b.c",
    "empty": "Bearer ",
    "of another scheme": "Basic dXNlcjpwYXNz",
    "no scheme": "garbage",
    "not ascii": "Bearer \u00e9",
}


@pytest.mark.parametrize("kind", [*INVALID, "revoked"])
async def test_a_refresh_token_logs_out_whatever_the_authorization_header_holds(
    replica: Any, clock: Any, kind: str
) -> None:
    ada = await replica.sign_in()
    authorization = ada.headers["Authorization"]
    body = {"refresh_token": ada.tokens["refresh_token"]}
    if kind == "revoked":
        ended = await replica.log_in_again(ada)
        await _log_out(replica, ended)
        authorization = ended.headers["Authorization"]
    elif kind == "expired":
        clock.advance(minutes=-20)
        authorization = (await replica.log_in_again(ada)).headers["Authorization"]
        clock.reset()
    else:
        authorization = INVALID[kind]
    headers = {"Authorization": authorization.encode()}

    for _ in range(2):
        response = await replica.http.post(f"{API}/logout", headers=headers, json=body)
        assert response.status_code == 204
    assert (await replica.profile(ada)).status_code == 401
    assert (await replica.refresh(ada.tokens["refresh_token"])).status_code == 401
    for empty in (None, {}, {"refresh_token": None}):
        response = await replica.http.post(f"{API}/logout", headers=headers, json=empty)
        assert response.status_code == 401


async def test_of_two_logouts_at_once_both_succeed(replicas: Any) -> None:
    ada = await replicas[0].sign_in()
    bob = await replicas[0].log_in_again(ada)
    pairs = [(ada, bob), (bob, ada)] * 4

    responses = await asyncio.gather(
        *(
            _log_out(replicas[number % 2], owner, {"refresh_token": other.tokens["refresh_token"]})
            for number, (owner, other) in enumerate(pairs)
        )
    )

    assert [response.status_code for response in responses] == [204] * len(pairs)


async def test_the_list_shows_the_users_own_sessions_and_their_clients(replica: Any) -> None:
    ada, bob = await replica.sign_in(), await replica.sign_in()
    phone = await replica.log_in_again(ada, address="2001:db8::7", agent="Phone/1.0 \x1b[31m" + "x" * 500)
    del bob

    response = await replica.http.get(f"{API}/sessions", headers=ada.headers)

    assert response.status_code == 200
    newest, oldest = response.json()["items"]
    assert newest.keys() == {"id", "created_at", "last_used_at", "user_agent", "address", "current"}
    assert (newest["id"], oldest["id"]) == (str(_session_id(phone)), str(_session_id(ada)))
    assert (newest["current"], oldest["current"]) == (False, True)
    assert newest["address"] == "2001:db8::7"
    assert newest["user_agent"].startswith("Phone/1.0")
    assert len(newest["user_agent"]) <= 200
    assert "\x1b" not in newest["user_agent"]


async def test_the_list_pages_and_a_refresh_shows_as_the_last_use(replica: Any, clock: Any) -> None:
    ada = await replica.sign_in()
    for _ in range(4):
        await replica.log_in_again(ada)
    clock.advance(hours=1)
    await replica.refresh(ada.tokens["refresh_token"])

    seen, cursor = [], None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await replica.http.get(f"{API}/sessions", params=parameters, headers=ada.headers)).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert len({session["id"] for session in seen}) == len(seen) == 5
    assert [session["last_used_at"] > session["created_at"] for session in seen] == [False] * 4 + [True]


async def test_a_user_revokes_own_sessions_only(replicas: Any) -> None:
    replica = replicas[0]
    ada, mallory = await replica.sign_in(), await replica.sign_in()
    phone = await replica.log_in_again(ada)

    async def revoke(who: Any, session: Any) -> int:
        response = await replica.http.delete(f"{API}/sessions/{session}", headers=who.headers)
        return int(response.status_code)

    assert await revoke(mallory, _session_id(phone)) == 404
    assert (await replica.profile(phone)).status_code == 200
    assert await revoke(ada, _session_id(phone)) == 204
    assert (await replica.profile(phone)).status_code == 401
    await _until_refused(replicas[1], phone)
    assert await revoke(ada, _session_id(phone)) == 404
    assert await revoke(ada, uuid4()) == 404
    assert await revoke(ada, "not-an-id") == 422
    assert (await replica.profile(ada)).status_code == 200


@pytest.fixture
async def own_replicas(deployment: Any, valkey_url: str) -> AsyncIterator[tuple[Any, Any]]:
    """Two processes of this test alone, which is going to stop Valkey."""
    async with deployment.replica() as first, deployment.replica() as second:
        yield first, second


async def test_a_revoked_session_stays_revoked_when_valkey_restarts_empty(
    own_replicas: Any, valkey_url: str, stores: Any
) -> None:
    first, second = own_replicas
    ada = await first.sign_in()
    await _log_out(first, ada)
    await _until_refused(second, ada)

    stores.supervisor.kill("valkey")
    await stores.supervisor.processes["valkey"].wait_ready()

    async with Redis.from_url(valkey_url) as client:
        await _until_known(RevokedSessions(client), _session_id(ada))
    for replica in own_replicas:
        assert (await replica.profile(ada)).status_code == 401


async def test_a_flushed_valkey_is_refilled_although_a_session_is_revoked_at_the_same_time(
    replicas: Any, valkey_url: str
) -> None:
    before, after = await replicas[0].sign_in(), await replicas[0].sign_in()
    await _log_out(replicas[0], before)
    async with Redis.from_url(valkey_url) as client:
        await _until_known(RevokedSessions(client), _session_id(before))
        await asyncio.gather(client.flushall(), _log_out(replicas[1], after))

        newcomer = RevokedSessions(client)
        await _until_known(newcomer, _session_id(before))
        await _until_known(newcomer, _session_id(after))


async def _until_known(listener: RevokedSessions, session_id: UUID) -> None:
    async with asyncio.timeout(60):
        while not listener.revokes(uuid4(), session_id, time.time()):
            await asyncio.sleep(0.05)
            await listener.refresh()


async def test_without_valkey_all_processes_of_this_service_still_refuse(own_replicas: Any, stores: Any) -> None:
    first, second = own_replicas
    ada = await first.sign_in()
    await stores.stop("valkey")
    try:
        assert (await _log_out(first, ada)).status_code == 204
        assert (await first.profile(ada)).status_code == 401
        await _until_refused(second, ada)
    finally:
        await stores.start("valkey")


async def test_a_revocation_whose_process_died_is_published_by_another(
    replica: Any, database: Any, valkey_url: str
) -> None:
    """A process that dies after its commit leaves only the row of the revoked session."""
    session_id = uuid4()
    async with database.begin() as connection:
        await connection.execute(
            text("INSERT INTO ended_sessions (session_id, expires_at) VALUES (:id, now() + interval '15 minutes')"),
            {"id": session_id},
        )

    async with Redis.from_url(valkey_url) as client:
        await _until_known(RevokedSessions(client), session_id)


async def test_a_new_process_refuses_what_was_revoked_before_its_start_even_without_valkey(
    deployment: Any, stores: Any, valkey_url: str
) -> None:
    async with deployment.replica() as first:
        ada = await first.sign_in()
        await _log_out(first, ada)
    await stores.stop("valkey")
    try:
        async with deployment.replica() as second:
            assert (await second.profile(ada)).status_code == 401
    finally:
        await stores.start("valkey")


async def test_a_revocation_is_kept_until_the_last_token_of_its_session_has_expired(
    replica: Any, database: Any
) -> None:
    ada = await replica.sign_in()
    refreshed = (await replica.refresh(ada.tokens["refresh_token"])).json()["access_token"]
    await _log_out(replica, ada)

    async with database.connect() as connection:
        kept = await connection.scalar(
            text("SELECT expires_at FROM ended_sessions WHERE session_id = :id"), {"id": _session_id(ada)}
        )
    expires = jwt.decode(refreshed, options={"verify_signature": False})["exp"]
    assert expires < kept.timestamp() < time.time() + 20 * 60


REFUSALS = [
    pytest.param(["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"], id="full"),
    pytest.param(
        ["CONFIG", "SET", "min-replicas-to-write", "1"],
        ["CONFIG", "SET", "min-replicas-to-write", "0"],
        id="too few replicas",
    ),
    pytest.param(["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"], id="read-only"),
    pytest.param(["ACL", "SETUSER", "WHOAMI", "-xadd"], ["ACL", "SETUSER", "WHOAMI", "+xadd"], id="denied"),
]


@pytest.mark.parametrize(("refuse", "accept"), REFUSALS)
async def test_a_valkey_that_takes_no_writes_is_reported_and_gets_all_revocations_afterwards(
    own_replicas: Any, valkey_url: str, refuse: list[str], accept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = own_replicas
    ada = await first.sign_in()
    async with Redis.from_url(valkey_url) as client:
        listener = RevokedSessions(client)
        await _until_state(listener, stale=False)
        me = await client.acl_whoami()
        refuse, accept = ([me if word == "WHOAMI" else word for word in command] for command in (refuse, accept))
        await client.execute_command(*refuse)
        try:
            assert (await _log_out(first, ada)).status_code == 204
            await _until_refused(second, ada)
            # The publisher says so, and so does every process that listens.
            await _until_status(first, "degraded", "revocation_publishing")
            await _until_status(second, "degraded", "revocations")
            await _until_state(listener, stale=True)
            assert not listener.revokes(uuid4(), _session_id(ada), time.time())
        finally:
            await client.execute_command(*accept)

        await _until_known(listener, _session_id(ada))
        await _until_state(listener, stale=False)
        for replica in own_replicas:
            await _until_status(replica, "ready", "revocation_publishing")


async def _until_status(replica: Any, status: str, check: str) -> None:
    async with asyncio.timeout(60):
        while True:
            response = await replica.http.get("/ready")
            assert response.status_code == 200
            found = response.json()
            if found["status"] == status and found["checks"][check] == ("up" if status == "ready" else "degraded"):
                return
            await asyncio.sleep(0.05)


async def _until_state(listener: RevokedSessions, *, stale: bool) -> None:
    async with asyncio.timeout(60):
        while True:
            await listener.refresh()
            if bool(await listener.trouble()) is stale and listener._has_heartbeats:
                return
            await asyncio.sleep(0.05)
