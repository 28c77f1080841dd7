"""Decisions about a change of password, on stores in memory."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from servicekit.core.errors import TooManyRequests
from user.tests.fakes import (
    CountingHasher,
    MemoryAccounts,
    MemoryDatabase,
    MemoryLogins,
    MemoryPasswords,
    UnavailableValkey,
)
from user_service.accounts.actions import NewAccount
from user_service.client import Client
from user_service.logins.actions import NewSession
from user_service.passwords.actions import PasswordActions, PasswordChanged, WrongPassword
from user_service.sessions.rules import IDLE, REVOCATION_KEPT, Revocations
from user_service.throttling.failure_limits import FailureLimits
from user_service.throttling.guard import PasswordGuard

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PASSWORD, NEW, WRONG = "the current password", "another good password", "a guess of mine"


class World:
    """One account with two sessions, and the actions on its database."""

    def __init__(self, hasher: CountingHasher) -> None:
        self.database = MemoryDatabase()
        self.hasher = hasher
        self.store = MemoryPasswords(self.database)
        self.announced: list[Revocations] = []
        self.actions = PasswordActions(
            self.store,
            guard=PasswordGuard(FailureLimits(UnavailableValkey(), service="test"), hasher.verify),
            hasher=hasher,
            announce=self.announced.append,
            clock=lambda: NOW,
        )
        self.ada, self.session, self.other = uuid4(), uuid4(), uuid4()

    async def set_up(self) -> None:
        password_hash = await self.hasher.hash(PASSWORD)
        async with MemoryAccounts(self.database).begin() as transaction:
            await transaction.add(NewAccount(self.ada, "ada", "ada@example.com", "Ada", password_hash, NOW))
        for session_id in (self.session, self.other):
            session = NewSession(session_id, self.ada, Client("192.0.2.1", ""), uuid4().bytes, NOW, NOW + IDLE)
            await MemoryLogins(self.database).start(session, password_hash=password_hash, new_hash=None)

    async def change(self, current: str = PASSWORD, *, user_id: UUID | None = None, network: str = "192.0.2.1") -> None:
        await self.actions.change(user_id or self.ada, self.session, network, current=current, new=NEW)

    async def matches(self, password: str) -> bool:
        return await self.hasher.verify(self.database.tables.users[self.ada].password_hash, password)


@pytest.fixture
async def world(hasher: CountingHasher) -> World:
    world = World(hasher)
    await world.set_up()
    return world


async def test_a_change_replaces_the_password_and_revokes_the_other_sessions(world: World) -> None:
    await world.change()

    assert await world.matches(NEW)
    assert world.database.tables.sessions.keys() == {world.session}
    assert world.announced == [{world.other: (NOW + REVOCATION_KEPT).timestamp()}]


async def test_a_wrong_current_password_changes_nothing(world: World) -> None:
    with pytest.raises(WrongPassword):
        await world.change(WRONG)

    assert await world.matches(PASSWORD)
    assert world.database.tables.sessions.keys() == {world.session, world.other}
    assert world.announced == []


async def test_the_token_of_a_deleted_account_changes_nothing_after_the_same_work(world: World) -> None:
    with pytest.raises(WrongPassword):
        await world.change(user_id=uuid4())
    assert world.hasher.verified == 1


async def test_of_two_concurrent_changes_the_later_one_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_ = world.hasher.hash

    async def hash_while_another_change_commits(password: str) -> str:
        world.database.tables.users[world.ada].password_hash = "another change"
        return await hash_(password)

    monkeypatch.setattr(world.hasher, "hash", hash_while_another_change_commits)

    with pytest.raises(PasswordChanged):
        await world.change()
    assert world.database.tables.sessions.keys() == {world.session, world.other}
    assert world.announced == []


async def test_a_stolen_token_is_no_way_around_the_limit_on_guesses(world: World) -> None:
    for _ in range(10):
        with pytest.raises(WrongPassword):
            await world.change(WRONG)

    with pytest.raises(TooManyRequests):
        await world.change()
    assert world.hasher.verified == 10
    await world.change(network="192.0.2.99")
