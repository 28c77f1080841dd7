"""Decisions about accounts, on stores in memory."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from servicekit.idempotency import IdempotentRequest, StoredResponse
from user.tests.fakes import CountingHasher, MemoryAccounts, MemoryDatabase, MemoryLogins, RecordingCache, mail_limits
from user_service.accounts.actions import AccountActions, AccountNotFound, AccountTaken, RoleActions
from user_service.accounts.rules import Role
from user_service.accounts.schemas import Account, ProfileChange, Registration
from user_service.client import Client
from user_service.domain_events import MAILS
from user_service.logins.actions import NewSession
from user_service.sessions.rules import REVOCATION_KEPT, Revocations

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery staple"
NO_KEY = IdempotentRequest("/register", None)


class World:
    """The actions on one database, and what they tell others."""

    def __init__(self, hasher: CountingHasher) -> None:
        self.database = MemoryDatabase()
        self.announced: list[Revocations] = []
        self.views = RecordingCache()
        self.accounts = AccountActions(
            MemoryAccounts(self.database),
            hasher=hasher,
            limits=mail_limits(),
            verifies=True,
            views=self.views,
            announce=self.announced.append,
            clock=lambda: NOW,
        )
        self.roles = RoleActions(MemoryAccounts(self.database), announce=self.announced.append, clock=lambda: NOW)

    async def register(self, name: str, request: IdempotentRequest = NO_KEY, **fields: Any) -> StoredResponse:
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD, **fields}
        return await self.accounts.register(Registration(**body), request, StoredResponse.json)

    async def add(self, username: str = "ada") -> Account:
        return Account.model_validate_json((await self.register(username)).body)

    async def start_session(self, user_id: UUID) -> UUID:
        user = self.database.tables.users[user_id]
        session = NewSession(uuid4(), user_id, Client("192.0.2.1", ""), uuid4().bytes, NOW, NOW)
        await MemoryLogins(self.database).start(session, password_hash=user.password_hash, new_hash=None)
        return session.id

    @property
    def events(self) -> list[tuple[str, str]]:
        events = self.database.tables.events
        return [(event.type, event.subject) for event in events if event.type not in MAILS]

    @property
    def mails(self) -> list[tuple[str, Any]]:
        events = self.database.tables.events
        return [(event.type, event.payload["email"]) for event in events if event.type in MAILS]


@pytest.fixture
def world(hasher: CountingHasher) -> World:
    return World(hasher)


def _revocation(session_id: UUID) -> Revocations:
    return {session_id: (NOW + REVOCATION_KEPT).timestamp()}


async def test_a_registration_stores_a_hash_shows_the_user_name_and_records_an_event(
    world: World, hasher: CountingHasher
) -> None:
    account = await world.add("Ada")

    assert (account.username, account.display_name, account.role, account.created_at) == ("Ada", "Ada", "user", NOW)
    assert await hasher.verify(world.database.tables.users[account.id].password_hash, PASSWORD)
    assert world.events == [("user.registered", str(account.id))]


async def test_a_repeated_registration_hashes_and_records_nothing_again(world: World, hasher: CountingHasher) -> None:
    request = IdempotentRequest("/register", b"key", b"fingerprint")
    first = await world.register("ada", request)

    assert await world.register("ada", request) == first.as_replay()
    assert hasher.hashed == 1
    assert len(world.events) == 1


@pytest.mark.parametrize("second", [{"username": "ADA"}, {"email": "ADA@EXAMPLE.com"}])
async def test_a_refused_registration_is_counted_and_records_nothing(world: World, second: dict[str, str]) -> None:
    await world.register("ada")
    before = REGISTRY.get_sample_value("service_duplicate_registrations_total") or 0

    with pytest.raises(AccountTaken):
        await world.register("bob", **second)

    assert REGISTRY.get_sample_value("service_duplicate_registrations_total") == before + 1
    assert len(world.events) == 1


async def test_a_changed_profile_is_invalidated_in_the_cache(world: World) -> None:
    account = await world.add()

    changed = await world.accounts.change_profile(account.id, ProfileChange(display_name="Ada L."))

    assert changed == account.model_copy(update={"display_name": "Ada L."})
    assert world.views.invalidated == [str(account.id)]


async def test_a_refused_change_invalidates_nothing(world: World) -> None:
    account, other = await world.add("ada"), await world.add("bob")

    with pytest.raises(AccountTaken):
        await world.accounts.change_profile(account.id, ProfileChange(email=other.email))
    with pytest.raises(AccountNotFound):
        await world.accounts.change_profile(uuid4(), ProfileChange(display_name="Nobody"))
    assert world.views.invalidated == []


async def test_a_deletion_revokes_sessions_records_an_event_and_invalidates_the_cache(world: World) -> None:
    account = await world.add()
    session_id = await world.start_session(account.id)

    await world.accounts.delete(account.id)

    assert world.database.tables.users == world.database.tables.sessions == {}
    assert world.announced == [_revocation(session_id)]
    assert world.events[1:] == [("user.deleted", str(account.id))]
    assert world.views.invalidated == [str(account.id)]


async def test_the_deletion_of_an_unknown_account_tells_nobody(world: World) -> None:
    with pytest.raises(AccountNotFound):
        await world.accounts.delete(uuid4())
    assert world.announced == world.events == world.views.invalidated == []


async def test_a_new_role_revokes_the_accounts_sessions(world: World) -> None:
    account, other = await world.add("ada"), await world.add("bob")
    session_id, _ = await world.start_session(account.id), await world.start_session(other.id)

    changed = await world.roles.set_role(account.id, Role.ADMIN)

    assert changed == account.model_copy(update={"role": Role.ADMIN})
    assert world.announced == [_revocation(session_id)]


async def test_an_unchanged_role_revokes_nothing(world: World) -> None:
    account = await world.add()
    session_id = await world.start_session(account.id)

    assert await world.roles.set_role(account.id, Role.USER) == account
    assert session_id in world.database.tables.sessions
    assert world.announced == [{}]


async def test_a_role_is_set_by_a_user_name_in_any_case(world: World) -> None:
    account = await world.add("Ada")
    session_id = await world.start_session(account.id)

    changed = await world.roles.set_role_by_name("ADA", Role.ADMIN)

    assert changed == account.model_copy(update={"role": Role.ADMIN})
    assert world.announced == [_revocation(session_id)]


async def test_an_unknown_account_gets_no_role(world: World) -> None:
    with pytest.raises(AccountNotFound):
        await world.roles.set_role(uuid4(), Role.ADMIN)
    with pytest.raises(AccountNotFound):
        await world.roles.set_role_by_name("nobody", Role.ADMIN)
    assert world.announced == []


async def test_a_new_address_is_asked_to_verify_and_the_old_one_is_told(world: World) -> None:
    account = await world.add()
    assert world.mails == [("mail.verification", "ada@example.com")]

    await world.accounts.change_profile(account.id, ProfileChange(display_name="Ada", email="ada@example.com"))
    assert len(world.mails) == 1

    await world.accounts.change_profile(account.id, ProfileChange(email="new@example.com"))
    assert world.mails[1:] == [
        ("mail.email_change_notice", "ada@example.com"),
        ("mail.verification", "new@example.com"),
    ]


async def test_changes_of_an_address_beyond_the_limit_send_no_mail_to_strangers(world: World) -> None:
    account = await world.add()
    for number in range(12):
        await world.accounts.change_profile(account.id, ProfileChange(email=f"other-{number}@example.com"))

    asked = [email for type_, email in world.mails if type_ == "mail.verification"]
    assert len(asked) == 1 + 10
