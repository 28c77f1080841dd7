"""Decisions about sessions, on stores in memory: refresh, reuse, logout, revocation."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import jwt
import pytest
from prometheus_client import REGISTRY

from servicekit.testing.clock import MovableClock
from user.tests.fakes import MemoryAccounts, MemoryDatabase, MemoryLogins, MemorySessions
from user_service.accounts.actions import NewAccount
from user_service.accounts.rules import Role
from user_service.client import Client
from user_service.logins.actions import NewSession
from user_service.sessions.actions import RefreshRefused, SessionActions, SessionNotFound
from user_service.sessions.refresh_tokens import digest, new_token
from user_service.sessions.rules import IDLE, Revocations
from user_service.tokens.issuer import TokenIssuer

HOME = "192.0.2.1"


class World:
    """One account, and the actions on its sessions."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self.database = MemoryDatabase()
        self.clock = MovableClock()
        self.clock.stopped_at = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.announced: list[Revocations] = []
        self.actions = SessionActions(
            MemorySessions(self.database), issuer=issuer, announce=self.announced.append, clock=self.clock
        )
        self.ada = uuid4()

    async def set_up(self) -> None:
        async with MemoryAccounts(self.database).begin() as transaction:
            await transaction.add(NewAccount(self.ada, "ada", "ada@example.com", "Ada", "hash", self.clock()))
            await transaction.set_role(self.ada, Role.ADMIN)

    async def log_in(self) -> tuple[UUID, str]:
        """Return the id of a new session and its refresh token."""
        token, now = new_token(), self.clock()
        session = NewSession(uuid4(), self.ada, Client("192.0.2.1", ""), digest(token), now, now + IDLE)
        await MemoryLogins(self.database).start(session, password_hash="hash", new_hash=None)
        return session.id, token

    async def refresh(self, token: str, network: str = HOME) -> str:
        return (await self.actions.refresh(token, network)).refresh_token

    async def is_refused(self, token: str, network: str = HOME) -> bool:
        try:
            await self.actions.refresh(token, network)
        except RefreshRefused:
            return True
        return False

    @property
    def alive(self) -> set[UUID]:
        return set(self.database.tables.sessions)

    @property
    def revoked(self) -> set[UUID]:
        """The announced sessions."""
        return {session_id for revoked in self.announced for session_id in revoked}


@pytest.fixture
async def world(issuer: TokenIssuer) -> World:
    world = World(issuer)
    await world.set_up()
    return world


def _reuses() -> float:
    return REGISTRY.get_sample_value("service_refresh_token_reuses_total") or 0


async def test_a_refresh_returns_an_access_token_of_the_same_session_with_the_current_role(world: World) -> None:
    session_id, token = await world.log_in()

    pair = await world.actions.refresh(token, HOME)

    claims = jwt.decode(pair.access_token, options={"verify_signature": False})
    assert (claims["sub"], claims["sid"], claims["roles"]) == (str(world.ada), str(session_id), ["admin"])
    assert claims["iat"] == world.clock().timestamp()
    assert pair.refresh_token != token


async def test_a_used_token_gets_the_same_successor_again_within_the_grace(world: World) -> None:
    _, first = await world.log_in()
    second = await world.refresh(first)
    world.clock.advance(seconds=10)

    assert await world.refresh(first) == second
    assert await world.refresh(second) not in (first, second)


async def test_a_used_token_is_answered_again_only_once(world: World) -> None:
    session_id, stolen = await world.log_in()
    newest = await world.refresh(stolen)
    assert await world.refresh(stolen) == newest

    assert await world.is_refused(stolen)

    assert world.revoked == {session_id}
    assert await world.is_refused(newest)


async def test_a_used_token_is_answered_again_only_in_the_network_that_used_it(world: World) -> None:
    session_id, stolen = await world.log_in()
    newest = await world.refresh(stolen)

    assert await world.is_refused(stolen, "203.0.113.9")

    assert world.revoked == {session_id}
    assert await world.is_refused(newest)


async def test_a_used_token_after_the_grace_revokes_its_session(world: World) -> None:
    session_id, stolen = await world.log_in()
    newest = await world.refresh(stolen)
    before = _reuses()
    world.clock.advance(seconds=10.1)

    assert await world.is_refused(stolen)

    assert _reuses() == before + 1
    assert world.revoked == {session_id}
    assert await world.is_refused(newest)


async def test_a_used_token_within_the_grace_revokes_its_session_once_its_successor_was_used(world: World) -> None:
    session_id, stolen = await world.log_in()
    newest = await world.refresh(await world.refresh(stolen))

    assert await world.is_refused(stolen)

    assert world.revoked == {session_id}
    assert await world.is_refused(newest)


async def test_a_token_that_was_used_long_ago_still_revokes_its_session(world: World) -> None:
    session_id, oldest = await world.log_in()
    newest = oldest
    for _ in range(5):
        newest = await world.refresh(newest)
        world.clock.advance(days=4)

    assert await world.is_refused(oldest)
    assert world.revoked == {session_id}
    assert await world.is_refused(newest)


async def test_reuse_revokes_no_other_session(world: World) -> None:
    (session_id, token), (elsewhere, other) = await world.log_in(), await world.log_in()
    await world.refresh(token)
    world.clock.advance(minutes=1)
    assert await world.is_refused(token)

    assert (world.revoked, world.alive) == ({session_id}, {elsewhere})
    await world.refresh(other)


async def test_a_session_expires_thirty_days_after_its_last_refresh(world: World) -> None:
    _, token = await world.log_in()
    for _ in range(2):
        world.clock.advance(days=29)
        token = await world.refresh(token)

    world.clock.advance(days=30)
    assert await world.is_refused(token)
    assert world.announced == []


@pytest.mark.parametrize("token", [new_token(), "text", ""], ids=["random", "text", "empty"])
async def test_an_unknown_token_is_refused_and_revokes_nothing(world: World, token: str) -> None:
    session_id, _ = await world.log_in()

    assert await world.is_refused(token)
    assert (world.alive, world.announced) == ({session_id}, [])


async def test_a_logout_revokes_the_sessions_of_both_tokens_and_no_other(world: World) -> None:
    (first, _), (second, token), (third, _) = [await world.log_in() for _ in range(3)]

    await world.actions.log_out(first, token)

    assert (world.revoked, world.alive) == ({first, second}, {third})


async def test_a_logout_with_an_unknown_refresh_token_is_no_error(world: World) -> None:
    for token in (new_token(), "never issued"):
        await world.actions.log_out(None, token)
    assert world.revoked == set()


async def test_a_user_revokes_own_sessions_only(world: World) -> None:
    (session_id, _), (other, _) = await world.log_in(), await world.log_in()

    for user_id, unknown in ((uuid4(), session_id), (world.ada, uuid4())):
        with pytest.raises(SessionNotFound):
            await world.actions.revoke(user_id, unknown)
    assert world.announced == []

    await world.actions.revoke(world.ada, session_id)
    assert (world.revoked, world.alive) == ({session_id}, {other})


async def test_all_sessions_of_an_account_are_revoked_at_once(world: World) -> None:
    sessions = {(await world.log_in())[0] for _ in range(3)}

    await world.actions.revoke_all(world.ada)

    assert (world.revoked, world.alive) == (sessions, set())
    with pytest.raises(SessionNotFound):
        await world.actions.revoke_all(uuid4())
