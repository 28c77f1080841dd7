"""A session that ended is refused everywhere, whoever ended it and whatever happens to Valkey."""

import asyncio
import time
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from servicekit.auth import revoked_sessions as revoked_sessions
from servicekit.auth.revoked_sessions import RevokedSessions
from user_service.sessions import announcements

API = "/api/v1/users"


def _session_id(signed_in: Any) -> UUID:
    claims = jwt.decode(signed_in.tokens["access_token"], options={"verify_signature": False})
    return UUID(claims["sid"])


async def _log_out(user: Any, who: Any, body: Any = None) -> Any:
    return await user.http.post(f"{API}/logout", headers=who.headers if who else {}, json=body)


def test_all_who_wait_for_the_end_of_a_session_look_more_than_once_a_second() -> None:
    """The tests below show that it reaches everybody; this is how soon, on a machine that has time for it."""
    assert announcements.PAUSE_SECONDS + revoked_sessions.POLL_SECONDS < 1


async def _soon_refused(replica: Any, who: Any) -> None:
    async with asyncio.timeout(60):
        while (await replica.profile(who)).status_code != 401:
            await asyncio.sleep(0.02)


async def test_a_logout_is_honoured_at_once_by_its_process_and_soon_by_the_other(replicas: Any) -> None:
    first, second = replicas
    ada = await first.sign_in()
    assert (await second.profile(ada)).status_code == 200

    assert (await _log_out(first, ada)).status_code == 204

    assert (await first.profile(ada)).status_code == 401
    await _soon_refused(second, ada)
    for replica in replicas:
        assert (await replica.refresh(ada.tokens["refresh_token"])).status_code == 401


async def test_every_other_service_hears_of_it_soon(user: Any, valkey_url: str) -> None:
    ada = await user.sign_in()
    async with Redis.from_url(valkey_url) as client:
        listener = RevokedSessions(client)
        await listener.refresh()
        await _log_out(user, ada)

        async with asyncio.timeout(60):
            while _session_id(ada) not in listener:
                await asyncio.sleep(0.02)
                await listener.refresh()


async def test_a_logout_ends_its_own_session_only(user: Any) -> None:
    ada = await user.sign_in()
    other = await user.log_in_again(ada)

    await _log_out(user, ada)

    assert (await user.profile(other)).status_code == 200


async def test_a_refresh_token_alone_logs_out_and_so_does_one_that_is_gone(user: Any) -> None:
    ada = await user.sign_in()
    body = {"refresh_token": ada.tokens["refresh_token"]}

    for _ in range(2):
        assert (await _log_out(user, None, body)).status_code == 204
    assert (await user.profile(ada)).status_code == 401
    assert (await _log_out(user, None, {"refresh_token": "never given out"})).status_code == 204


async def test_an_empty_body_is_none(user: Any) -> None:
    for body in ({}, {"refresh_token": None}, None):
        ada = await user.sign_in()
        assert (await _log_out(user, ada, body)).status_code == 204
        assert (await user.profile(ada)).status_code == 401


async def test_without_any_token_there_is_nothing_to_log_out(user: Any) -> None:
    assert (await _log_out(user, None)).status_code == 401
    assert (await user.http.post(f"{API}/logout", json={"everywhere": True})).status_code == 422


async def test_the_list_shows_ones_own_sessions_with_what_helps_to_tell_them_apart(user: Any) -> None:
    ada, bob = await user.sign_in(), await user.sign_in()
    phone = await user.log_in_again(ada, address="2001:db8::7", agent="Phone/1.0 \x1b[31m" + "x" * 500)
    del bob

    answer = await user.http.get(f"{API}/sessions", headers=ada.headers)

    assert answer.status_code == 200
    newest, oldest = answer.json()["items"]
    assert newest.keys() == {"id", "created_at", "last_used_at", "user_agent", "address", "current"}
    assert (newest["id"], oldest["id"]) == (str(_session_id(phone)), str(_session_id(ada)))
    assert (newest["current"], oldest["current"]) == (False, True)
    assert newest["address"] == "2001:db8::7"
    assert newest["user_agent"].startswith("Phone/1.0")
    assert len(newest["user_agent"]) <= 200
    assert "\x1b" not in newest["user_agent"]


async def test_the_list_pages_and_a_refresh_shows_as_the_last_use(user: Any, clock: Any) -> None:
    ada = await user.sign_in()
    for _ in range(4):
        await user.log_in_again(ada)
    clock.advance(hours=1)
    await user.refresh(ada.tokens["refresh_token"])

    seen, cursor = [], None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await user.http.get(f"{API}/sessions", params=parameters, headers=ada.headers)).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert len({session["id"] for session in seen}) == len(seen) == 5
    assert [session["last_used_at"] > session["created_at"] for session in seen] == [False] * 4 + [True]


async def test_one_ends_ones_own_sessions_and_nobody_elses(replicas: Any) -> None:
    user = replicas[0]
    ada, mallory = await user.sign_in(), await user.sign_in()
    phone = await user.log_in_again(ada)

    async def end(who: Any, session: Any) -> int:
        answer = await user.http.delete(f"{API}/sessions/{session}", headers=who.headers)
        return int(answer.status_code)

    assert await end(mallory, _session_id(phone)) == 404
    assert (await user.profile(phone)).status_code == 200
    assert await end(ada, _session_id(phone)) == 204
    assert (await user.profile(phone)).status_code == 401
    await _soon_refused(replicas[1], phone)
    assert await end(ada, _session_id(phone)) == 404
    assert await end(ada, uuid4()) == 404
    assert await end(ada, "not-an-id") == 422
    assert (await user.profile(ada)).status_code == 200


async def test_what_ended_stays_ended_when_valkey_comes_back_empty(replicas: Any, valkey_url: str, stores: Any) -> None:
    ada = await replicas[0].sign_in()
    await _log_out(replicas[0], ada)
    await _soon_refused(replicas[1], ada)

    stores.supervisor.kill("valkey")
    await stores.supervisor.processes["valkey"].wait_ready()

    async with Redis.from_url(valkey_url) as client:
        await _eventually_heard(RevokedSessions(client), _session_id(ada))
    for replica in replicas:
        assert (await replica.profile(ada)).status_code == 401


async def test_a_flushed_valkey_is_refilled_although_a_session_ends_just_then(replicas: Any, valkey_url: str) -> None:
    before, after = await replicas[0].sign_in(), await replicas[0].sign_in()
    await _log_out(replicas[0], before)
    async with Redis.from_url(valkey_url) as client:
        await _eventually_heard(RevokedSessions(client), _session_id(before))
        await asyncio.gather(client.flushall(), _log_out(replicas[1], after))

        newcomer = RevokedSessions(client)
        await _eventually_heard(newcomer, _session_id(before))
        await _eventually_heard(newcomer, _session_id(after))


async def _eventually_heard(listener: RevokedSessions, session_id: UUID) -> None:
    async with asyncio.timeout(60):
        while session_id not in listener:
            await asyncio.sleep(0.05)
            await listener.refresh()


async def test_without_valkey_all_processes_of_this_service_still_refuse_soon(replicas: Any, stores: Any) -> None:
    ada = await replicas[0].sign_in()
    await stores.stop("valkey")
    try:
        assert (await _log_out(replicas[0], ada)).status_code == 204
        assert (await replicas[0].profile(ada)).status_code == 401
        await _soon_refused(replicas[1], ada)
    finally:
        await stores.start("valkey")


async def test_an_end_that_its_process_did_not_live_to_tell_is_told_by_another(
    user: Any, database: Any, valkey_url: str
) -> None:
    """The row of a session that ended, and nothing else, is what a process leaves that dies after its commit."""
    session_id = uuid4()
    async with database.begin() as connection:
        await connection.execute(
            text("INSERT INTO ended_sessions (session_id, expires_at) VALUES (:id, now() + interval '15 minutes')"),
            {"id": session_id},
        )

    async with Redis.from_url(valkey_url) as client:
        await _eventually_heard(RevokedSessions(client), session_id)


async def test_a_new_process_refuses_what_ended_before_its_start_even_without_valkey(
    deployment: Any, stores: Any
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


async def test_every_end_is_kept_until_the_last_token_of_its_session_has_expired(user: Any, database: Any) -> None:
    ada = await user.sign_in()
    refreshed = (await user.refresh(ada.tokens["refresh_token"])).json()["access_token"]
    await _log_out(user, ada)

    async with database.connect() as connection:
        kept = await connection.scalar(
            text("SELECT expires_at FROM ended_sessions WHERE session_id = :id"), {"id": _session_id(ada)}
        )
    expires = jwt.decode(refreshed, options={"verify_signature": False})["exp"]
    assert expires < kept.timestamp() < time.time() + 20 * 60


@pytest.mark.parametrize("by", ["logout", "own list", "refresh reuse"])
async def test_an_ended_session_leaves_no_token_behind(user: Any, database: Any, clock: Any, by: str) -> None:
    ada = await user.sign_in()
    await user.refresh(ada.tokens["refresh_token"])
    if by == "logout":
        await _log_out(user, ada)
    elif by == "own list":
        await user.http.delete(f"{API}/sessions/{_session_id(ada)}", headers=ada.headers)
    else:
        clock.advance(seconds=11)
        await user.refresh(ada.tokens["refresh_token"])

    async with database.connect() as connection:
        for table, column in (("sessions", "id"), ("refresh_tokens", "session_id")):
            left = await connection.scalar(
                text(f"SELECT count(*) FROM {table} WHERE {column} = :id"), {"id": _session_id(ada)}
            )
            assert left == 0
