"""An account with many sessions disturbs nobody: their number is limited, and revoking many is one announcement."""

import asyncio
import time
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from servicekit.auth.revoked_sessions import STREAM, RevokedSessions
from user_service.sessions.announcements import BATCH, BATCHES
from user_service.sessions.rules import FEW_SESSIONS, MAX_SESSIONS

API = "/api/v1/users"
# What an account of the version before may have.
MANY = 80_000
# Three rounds of one worker.
PILE = 3 * BATCH * BATCHES


def _session_id(signed_in: Any) -> UUID:
    claims = jwt.decode(signed_in.tokens["access_token"], options={"verify_signature": False})
    return UUID(claims["sid"])


async def _add_sessions(database: Any, user_id: str, number: int) -> None:
    """Add sessions of the version before, with a refresh token each, that began before all others."""
    async with database.begin() as connection:
        await connection.execute(
            text(
                "WITH added AS (INSERT INTO sessions SELECT gen_random_uuid(), :user, at, at, now() + interval '1 day',"
                " 'tests', '192.0.2.1', 0 FROM generate_series(1, :number) n,"
                " LATERAL (SELECT now() - interval '1 hour' - n * interval '1 ms' AS at) _ RETURNING id)"
                " INSERT INTO refresh_tokens (digest, session_id, generation)"
                " SELECT sha256(id::text::bytea), id, 0 FROM added"
            ),
            {"user": user_id, "number": number},
        )
        # As autovacuum does while sessions add up. A connection that deleted sessions while the tables were small would
        # otherwise keep its plan of that time, which reads a table whole for each session.
        await connection.execute(text("ANALYZE sessions, refresh_tokens"))


async def _number_of_sessions(database: Any, user_id: str) -> int:
    async with database.connect() as connection:
        query = text("SELECT count(*) FROM sessions WHERE user_id = :id")
        return int(await connection.scalar(query, {"id": user_id}))


async def _until_refused(replica: Any, who: Any) -> None:
    async with asyncio.timeout(60):
        while (await replica.profile(who)).status_code != 401:
            await asyncio.sleep(0.02)


async def _until_known(listener: RevokedSessions, session_id: UUID) -> None:
    async with asyncio.timeout(60):
        while not listener.revokes(uuid4(), session_id, time.time()):
            await asyncio.sleep(0.02)
            await listener.refresh()


async def _revoke_by_password(replica: Any, ada: Any) -> Any:
    body = {"current_password": ada.password, "new_password": "another long password"}
    return await replica.http.post(f"{API}/password", json=body, headers=ada.headers)


async def _revoke_by_deletion(replica: Any, ada: Any) -> Any:
    return await replica.http.delete(f"{API}/profile", headers=ada.headers)


async def _revoke_by_role(replica: Any, ada: Any) -> Any:
    admin = await replica.sign_in_admin()
    return await replica.http.put(f"{API}/{ada.id}/role", json={"role": "admin"}, headers=admin.headers)


async def _revoke_by_admin(replica: Any, ada: Any) -> Any:
    admin = await replica.sign_in_admin()
    return await replica.http.delete(f"{API}/{ada.id}/sessions", headers=admin.headers)


@pytest.mark.parametrize(
    ("revoke", "keeps_one"),
    [
        pytest.param(_revoke_by_password, True, id="password"),
        pytest.param(_revoke_by_deletion, False, id="deletion"),
        pytest.param(_revoke_by_role, False, id="role"),
        pytest.param(_revoke_by_admin, False, id="admin"),
    ],
)
async def test_revoking_many_sessions_is_one_entry_and_others_are_heard_meanwhile(
    replicas: Any, database: Any, valkey_url: str, revoke: Any, keeps_one: bool
) -> None:
    first, second = replicas
    bob = await first.sign_in()
    old = await first.sign_in()
    ada = await first.log_in_again(old)
    await _add_sessions(database, ada.id, MANY)
    async with Redis.from_url(valkey_url) as client:
        listener = RevokedSessions(client)
        await listener.refresh()
        before = await client.xlen(STREAM)

        revoked, left = await asyncio.gather(revoke(first, ada), second.http.post(f"{API}/logout", headers=bob.headers))

        assert revoked.status_code in {200, 204}, revoked.text
        assert left.status_code == 204
        await _until_known(listener, _session_id(bob))
        await _until_refused(second, old)
        assert (await second.profile(ada)).status_code == (200 if keeps_one else 401)
        # Heartbeats come on top, at most one a second.
        assert await client.xlen(STREAM) - before < 100
    assert await _number_of_sessions(database, ada.id) == keeps_one
    if revoke is not _revoke_by_deletion:
        login = await first.log_in(ada.username, "another long password" if keeps_one else ada.password)
        later = type(ada)(ada.account, login.json())
        assert [(await replica.profile(later)).status_code for replica in replicas] == [200, 200]


async def test_a_login_trims_the_sessions_of_the_version_before(replicas: Any, database: Any) -> None:
    first, second = replicas
    ada = await first.sign_in()
    await _add_sessions(database, ada.id, MANY)

    again = await first.log_in_again(ada)

    assert await _number_of_sessions(database, ada.id) == MAX_SESSIONS
    for replica in replicas:
        assert [(await replica.profile(who)).status_code for who in (ada, again)] == [200, 200]
    listed = await second.http.get(f"{API}/sessions", params={"limit": 100}, headers=again.headers)
    assert len(listed.json()["items"]) == MAX_SESSIONS


async def test_concurrent_logins_in_several_replicas_leave_the_newest_sessions(replicas: Any, database: Any) -> None:
    ada = await replicas[0].sign_in()
    await _add_sessions(database, ada.id, MAX_SESSIONS - 1)
    number = FEW_SESSIONS - 2

    signed_in = await asyncio.gather(*(replicas[n % 2].log_in_again(ada) for n in range(number)))

    assert await _number_of_sessions(database, ada.id) == MAX_SESSIONS
    for who in (ada, *signed_in):
        assert (await replicas[0].profile(who)).status_code == 200


async def test_a_pile_of_unpublished_revocations_delays_no_later_one(
    replica: Any, database: Any, valkey_url: str
) -> None:
    """A process of the version before may have revoked many sessions one by one."""
    async with Redis.from_url(valkey_url) as client:
        listener = RevokedSessions(client)
        async with asyncio.timeout(60):
            # Refilling an emptied Valkey would publish all at once.
            while not await client.exists(STREAM):
                await asyncio.sleep(0.02)
        async with database.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO ended_sessions (session_id, expires_at)"
                    " SELECT gen_random_uuid(), now() + interval '15 minutes' FROM generate_series(1, :number)"
                ),
                {"number": PILE},
            )
        bob = await replica.sign_in()
        await replica.http.post(f"{API}/logout", headers=bob.headers)
        await _until_known(listener, _session_id(bob))

        assert len(listener._expiries) < PILE
        async with asyncio.timeout(120):
            while len(listener._expiries) < PILE + 1:
                await asyncio.sleep(0.1)
                await listener.refresh()
