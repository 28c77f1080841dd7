"""One contract for the stores of accounts, logins, passwords and sessions: in memory and on PostgreSQL."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from local_platform.stores import StoreSet
from servicekit.auth.revoked_sessions import AccountSessions, RevokedSessions
from servicekit.idempotency import IdempotentRequest, KeyReused, StoredResponse
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.outbox import DomainEvent, Origin
from servicekit.outbox.postgres import PostgresOutboxStore
from servicekit.storage.postgres import create_engine
from servicekit.storage.postgres_migrations import migrate
from servicekit.storage.postgres_models import sessions_of
from user.tests.fakes import (
    MemoryAccounts,
    MemoryDatabase,
    MemoryLogins,
    MemoryPasswords,
    MemoryRevocationRecords,
    MemorySessions,
)
from user_service.accounts.actions import Accounts, AccountTaken, AccountTransaction, NewAccount
from user_service.accounts.rules import Role
from user_service.accounts.schemas import Account, ProfileChange
from user_service.accounts.store import PostgresAccounts
from user_service.client import Client
from user_service.logins.actions import Candidate, LoginStore, NewSession, StartedSession, new_session_id
from user_service.logins.store import PostgresLogins
from user_service.migrate import FOLDER
from user_service.models import IDEMPOTENCY_KEYS, OUTBOX
from user_service.passwords.actions import CurrentPassword, PasswordStore
from user_service.passwords.store import PostgresPasswords
from user_service.sessions.actions import IssuedToken, SessionTransaction
from user_service.sessions.announcements import RevocationRecords
from user_service.sessions.rules import (
    FEW_SESSIONS,
    IDLE,
    MAX_SESSIONS,
    REVOCATION_KEPT,
    TokenState,
    milliseconds,
)
from user_service.sessions.store import PostgresSessions, RevocationTables

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLIENT = Client("192.0.2.1", "tests")

_numbers = count(1)


@dataclass
class Storage:
    """The stores of one database. `recorded` returns the subjects of the events in its committed transactions."""

    accounts: Accounts
    logins: LoginStore
    passwords: PasswordStore
    sessions: Any
    revocations: RevocationRecords
    recorded: Callable[[], Awaitable[set[str]]]

    async def add(self, **fields: Any) -> Account:
        async with self.accounts.begin() as transaction:
            return await transaction.add(new_account(**fields))

    async def log_in(self, account: Account, at: datetime = NOW) -> NewSession:
        session = new_session(account.id, created_at=at)
        started = await self.logins.start(session, password_hash="hash", new_hash=None)
        assert started is not None
        assert started.role == "user"
        return replace(session, id=started.id)

    async def state(self, session: NewSession) -> TokenState | None:
        """Return the state of the session's first refresh token."""
        token = await self.sessions.transact(lambda tx: tx.find(session.token_digest))
        return token.state if token else None


def new_account(**fields: Any) -> NewAccount:
    name = f"contract-{next(_numbers)}"
    values = {"username": name, "email": f"{name}@example.com", "display_name": name, "password_hash": "hash"}
    return NewAccount(id=uuid7(), created_at=NOW, **(values | fields))


def new_session(user_id: UUID, **fields: Any) -> NewSession:
    values: dict[str, Any] = {
        "client": CLIENT,
        "token_digest": uuid4().bytes * 2,
        "created_at": NOW,
        "expires_at": NOW + IDLE,
    }
    values |= fields
    return NewSession(id=new_session_id(values["created_at"]), user_id=user_id, **values)


@pytest.fixture(scope="module")
async def database_url(stores: StoreSet) -> AsyncIterator[str]:
    """The URL of a database that no replica works on: a replica would publish revocations."""
    url = await stores.create_postgres_database("user_contract")
    await migrate(FOLDER, SecretStr(url))
    yield url
    await stores.drop_postgres_database("user_contract")


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.servers)])
def server_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("database_url") if request.param == "postgres" else None


@pytest.fixture
async def storage(server_url: str | None) -> AsyncIterator[Storage]:
    if server_url is None:
        yield _in_memory()
        return
    engine = create_engine(SecretStr(server_url), application="contract", pool_size=2)
    sessions, outbox = sessions_of(engine), PostgresOutboxStore(engine, OUTBOX)

    async def record(session: AsyncSession, event: DomainEvent) -> None:
        # No relay knows this destination, so the events stay.
        await outbox.record_all(session, [(event, ["contract"], Origin.current())])

    async def recorded() -> set[str]:
        async with sessions() as session:
            return set(await session.scalars(select(OUTBOX.c.subject).where(OUTBOX.c.destination == "contract")))

    yield Storage(
        PostgresAccounts(sessions, PostgresIdempotency(sessions, IDEMPOTENCY_KEYS), record),
        PostgresLogins(sessions),
        PostgresPasswords(sessions, record),
        PostgresSessions(sessions),
        RevocationTables(sessions, clock=lambda: NOW),
        recorded,
    )
    await engine.dispose()


def _in_memory() -> Storage:
    database = MemoryDatabase()

    async def recorded() -> set[str]:
        return {event.subject for event in database.tables.events}

    return Storage(
        MemoryAccounts(database),
        MemoryLogins(database),
        MemoryPasswords(database),
        MemorySessions(database),
        MemoryRevocationRecords(database),
        recorded,
    )


async def test_an_added_account_is_found_by_its_name_in_any_case(storage: Storage) -> None:
    new = new_account(username=f"Ada-{uuid4().hex[:8]}")

    async with storage.accounts.begin() as transaction:
        account = await transaction.add(new)
        assert await transaction.find_id(new.username.upper()) == new.id
        assert await transaction.find_id("no-such-name") is None

    assert (account.id, account.username, account.email) == (new.id, new.username, new.email)
    assert (account.role, account.created_at) == (Role.USER, NOW)


@pytest.mark.parametrize("field", ["username", "email"])
async def test_a_name_or_an_address_belongs_to_one_account_in_any_case(storage: Storage, field: str) -> None:
    account, other = await storage.add(), await storage.add()
    taken = getattr(account, field).upper()

    with pytest.raises(AccountTaken) as refusal:
        await storage.add(**{field: taken})
    assert refusal.value.members["errors"] == [{"field": f"body.{field}", "message": "taken"}]
    if field == "email":
        with pytest.raises(AccountTaken):
            async with storage.accounts.begin() as transaction:
                await transaction.change(other.id, ProfileChange(email=taken))


async def test_a_change_sets_the_given_fields_only(storage: Storage) -> None:
    account = await storage.add()

    async with storage.accounts.begin() as transaction:
        changed = await transaction.change(account.id, ProfileChange(display_name="Ada"))
        assert changed == (account.model_copy(update={"display_name": "Ada"}), account.email)
        assert await transaction.change(account.id, ProfileChange()) == changed
        assert await transaction.change(uuid4(), ProfileChange(display_name="Ada")) is None


async def test_setting_a_role_tells_whether_it_has_changed(storage: Storage) -> None:
    account = await storage.add()

    async with storage.accounts.begin() as transaction:
        assert await transaction.set_role(account.id, Role.ADMIN) == (
            account.model_copy(update={"role": Role.ADMIN}),
            True,
        )
        assert (await transaction.set_role(account.id, Role.ADMIN) or (None, True))[1] is False
        assert await transaction.set_role(uuid4(), Role.ADMIN) is None


async def test_a_removed_account_leaves_nothing_and_its_names_are_free(storage: Storage) -> None:
    account = await storage.add()
    session = await storage.log_in(account)

    async with storage.accounts.begin() as transaction:
        revoked = await transaction.revoke_sessions(account.id, NOW)
        assert await transaction.remove(account.id)
        assert not await transaction.remove(account.id)

    assert revoked == {session.id: (NOW + REVOCATION_KEPT).timestamp()}
    assert await storage.state(session) is None
    assert await storage.logins.find(username_key=account.username, email_key=None, network="") is None
    await storage.add(username=account.username, email=account.email)


async def test_an_exception_undoes_the_transaction_with_its_events(storage: Storage) -> None:
    kept, undone = await storage.add(), await storage.add()

    for account in (kept, undone):
        with suppress(LookupError):
            async with storage.accounts.begin() as transaction:
                await transaction.change(account.id, ProfileChange(display_name="Changed"))
                await transaction.record(DomainEvent(type="test.happened", subject=str(account.id)))
                if account is undone:
                    raise LookupError

    async with storage.accounts.begin() as transaction:
        assert await transaction.change(undone.id, ProfileChange()) == (undone, undone.email)
    assert {str(kept.id), str(undone.id)} & await storage.recorded() == {str(kept.id)}


def _request(key: str, fingerprint: bytes = b"f" * 32) -> IdempotentRequest:
    return IdempotentRequest.of(method="POST", route="/register", caller=None, key=key, fingerprint=fingerprint)


async def test_an_effect_runs_once_per_key_and_its_response_is_stored(storage: Storage) -> None:
    request, new = _request(uuid4().hex), new_account()
    response = StoredResponse.json({"id": str(new.id)})

    async def effect(transaction: AccountTransaction) -> StoredResponse:
        await transaction.add(new)
        return response

    assert await storage.accounts.find_stored(request) is None
    assert await storage.accounts.run_once(request, effect) == response
    assert await storage.accounts.run_once(request, effect) == response.as_replay()
    assert await storage.accounts.find_stored(request) == response.as_replay()
    with pytest.raises(KeyReused):
        await storage.accounts.find_stored(replace(request, fingerprint=b"g" * 32))


async def test_a_failed_effect_leaves_its_key_free(storage: Storage) -> None:
    account, request = await storage.add(), _request(uuid4().hex)

    async def fail(transaction: AccountTransaction) -> StoredResponse:
        await transaction.add(new_account(email=account.email))
        return StoredResponse(201)

    async def succeed(_transaction: AccountTransaction) -> StoredResponse:
        return StoredResponse(201)

    with pytest.raises(AccountTaken):
        await storage.accounts.run_once(request, fail)
    assert await storage.accounts.run_once(request, succeed) == StoredResponse(201)


async def test_without_a_key_every_effect_runs(storage: Storage) -> None:
    for _ in range(2):
        assert await storage.accounts.run_once(IdempotentRequest("/register", None), _respond) == StoredResponse(201)


async def _respond(_transaction: AccountTransaction) -> StoredResponse:
    return StoredResponse(201)


async def test_a_login_finds_its_account_by_name_or_address_and_remembers_the_network(storage: Storage) -> None:
    account = await storage.add()

    async def candidates(network: str) -> list[Candidate | None]:
        keys = [(account.username, None), (None, account.email)]
        return [await storage.logins.find(username_key=name, email_key=email, network=network) for name, email in keys]

    stranger = Candidate(account.id, "hash", False, account.username, account.email, email_verified=False)
    assert await candidates(CLIENT.network) == [stranger] * 2
    await storage.log_in(account)
    assert await candidates(CLIENT.network) == [replace(stranger, network_known=True)] * 2
    assert await candidates("198.51.100.1") == [stranger] * 2
    for name, email in ((None, None), ("no-such-name", None), (None, "nobody@example.com")):
        assert await storage.logins.find(username_key=name, email_key=email, network="") is None


async def test_a_login_starts_a_session_with_a_fresh_token_and_returns_the_role(storage: Storage) -> None:
    account = await storage.add()
    async with storage.accounts.begin() as transaction:
        await transaction.set_role(account.id, Role.ADMIN)
    session = new_session(account.id)

    started = await storage.logins.start(session, password_hash="hash", new_hash="renewed")
    assert started == StartedSession(session.id, "admin")

    assert await storage.sessions.transact(lambda tx: tx.find(session.token_digest)) == IssuedToken(
        session.token_digest, session.id, account.id, "admin", TokenState(session.expires_at), None
    )
    current = await storage.passwords.current(account.id, CLIENT.network)
    assert current == CurrentPassword("renewed", True, account.username, account.email, account.username, account.email)


async def test_no_session_starts_with_a_password_that_has_changed(storage: Storage) -> None:
    account = await storage.add()

    for user_id, password_hash in ((account.id, "another"), (uuid4(), "hash")):
        session = new_session(user_id)
        assert await storage.logins.start(session, password_hash=password_hash, new_hash=None) is None
        assert await storage.state(session) is None


async def test_a_new_password_revokes_all_sessions_but_one(storage: Storage) -> None:
    account = await storage.add()
    kept, other, stranger = [await storage.log_in(owner) for owner in (account, account, await storage.add())]

    replaced = await storage.passwords.replace(
        account.id, old_hash="hash", new_hash="new", keep_session=kept.id, now=NOW
    )

    assert replaced == {other.id: (NOW + REVOCATION_KEPT).timestamp()}
    assert [await storage.state(session) is None for session in (kept, other, stranger)] == [False, True, False]
    current = await storage.passwords.current(account.id, "198.51.100.1")
    assert current == CurrentPassword("new", False, account.username, account.email, account.username, account.email)


async def test_a_password_that_has_changed_is_not_replaced(storage: Storage) -> None:
    account = await storage.add()
    session = await storage.log_in(account)

    for user_id, old_hash in ((account.id, "another"), (uuid4(), "hash")):
        revoked = await storage.passwords.replace(
            user_id, old_hash=old_hash, new_hash="new", keep_session=uuid4(), now=NOW
        )
        assert revoked is None
    assert await storage.state(session) is not None
    assert await storage.passwords.current(uuid4(), "") is None


async def test_a_rotation_puts_each_token_one_step_behind_its_successor(storage: Storage) -> None:
    session = await storage.log_in(await storage.add())
    digests = [session.token_digest, b"2" * 16 + session.id.bytes, b"3" * 16 + session.id.bytes]

    async def rotate(transaction: SessionTransaction, step: int, used: bytes, successor: bytes) -> None:
        later = NOW + timedelta(hours=step)
        token = await transaction.find(used)
        assert token is not None
        assert token.state == TokenState(NOW + IDLE + timedelta(hours=step - 1))
        await transaction.rotate(
            token,
            successor=successor,
            sealed=b"sealed %d" % step,
            network=f"192.0.2.{step}",
            now=later,
            expires_at=later + IDLE,
        )
        if step == 1:
            await transaction.mark_repeated(token, later)

    for step, (used, successor) in enumerate(pairwise(digests), start=1):
        await storage.sessions.transact(partial(rotate, step=step, used=used, successor=successor))

    async def find_all(transaction: SessionTransaction) -> list[IssuedToken | None]:
        return [await transaction.find(digest) for digest in digests]

    found = await storage.sessions.transact(find_all)
    expires_at = NOW + IDLE + timedelta(hours=2)
    assert [(token.state, token.sealed_successor) for token in found] == [
        (TokenState(expires_at, 2, NOW + timedelta(hours=1), "192.0.2.1", repeated=True), b"sealed 1"),
        (TokenState(expires_at, 1, NOW + timedelta(hours=2), "192.0.2.2"), b"sealed 2"),
        (TokenState(expires_at), None),
    ]


async def test_an_unknown_token_is_not_found(storage: Storage) -> None:
    assert await storage.sessions.transact(lambda tx: tx.find(b"0" * 32)) is None


async def test_a_revoked_session_is_gone_with_its_tokens(storage: Storage) -> None:
    account = await storage.add()
    session, other = await storage.log_in(account), await storage.log_in(account)

    async def revoke(transaction: SessionTransaction) -> None:
        assert await transaction.revoke(session.id, now=NOW, user_id=uuid4()) == {}
        revoked = await transaction.revoke(session.id, now=NOW, user_id=account.id)
        assert revoked == {session.id: (NOW + REVOCATION_KEPT).timestamp()}
        assert await transaction.revoke(session.id, now=NOW) == {}
        assert await transaction.revoke(uuid4(), now=NOW) == {}

    await storage.sessions.transact(revoke)

    assert await storage.state(session) is None
    assert await storage.state(other) is not None


async def test_all_sessions_of_an_account_are_revoked(storage: Storage) -> None:
    account = await storage.add()
    sessions = [await storage.log_in(account) for _ in range(2)]
    stranger = await storage.log_in(await storage.add())

    async def revoke(transaction: SessionTransaction) -> None:
        revoked = await transaction.revoke_all(account.id, now=NOW)
        assert revoked == dict.fromkeys([session.id for session in sessions], (NOW + REVOCATION_KEPT).timestamp())
        assert await transaction.revoke_all(account.id, now=NOW) == {}
        assert await transaction.revoke_all(uuid4(), now=NOW) is None

    await storage.sessions.transact(revoke)

    assert await storage.state(stranger) is not None


async def test_a_revocation_is_pending_until_it_is_published_and_known_until_it_expires(storage: Storage) -> None:
    session = await storage.log_in(await storage.add())
    revoked = await storage.sessions.transact(lambda tx: tx.revoke(session.id, now=NOW))
    records = storage.revocations

    with suppress(ConnectionError):
        async with records.pending(1000) as pending:
            assert revoked.items() <= pending.items()
            raise ConnectionError
    async with records.pending(1000) as pending:
        assert revoked.items() <= pending.items()
    async with records.pending(1000) as pending:
        assert session.id not in pending
    assert revoked.items() <= (await records.expiring_after(NOW)).items()
    assert session.id not in await records.expiring_after(NOW + REVOCATION_KEPT)


async def test_many_sessions_are_one_revocation_that_spares_the_kept_and_later_ones(storage: Storage) -> None:
    account = await storage.add()
    kept, *others = [await storage.log_in(account) for _ in range(FEW_SESSIONS + 2)]

    revoked = await storage.passwords.replace(
        account.id, old_hash="hash", new_hash="hash", keep_session=kept.id, now=NOW
    )

    mark = AccountSessions(account.id, milliseconds(NOW), kept.id)
    assert revoked == {mark: (NOW + REVOCATION_KEPT).timestamp()}
    assert [await storage.state(session) is None for session in (kept, *others)] == [False] + [True] * len(others)
    known_as_revoked = await storage.revocations.expiring_after(NOW)
    assert revoked.items() <= known_as_revoked.items()
    assert not {session.id for session in others} & known_as_revoked.keys()
    async with storage.revocations.pending(1000) as pending:
        assert revoked.items() <= pending.items()
    # The clock of this login's process is behind that of the revocation.
    later = await storage.log_in(account)
    known = RevokedSessions(Redis())
    known.add(mark, time.time() + 60)
    assert [known.revokes(account.id, session.id, 0) for session in (kept, *others, later)] == [
        False,
        *[True] * len(others),
        False,
    ]


async def test_a_later_revocation_of_many_sessions_replaces_the_earlier_one(storage: Storage) -> None:
    account = await storage.add()
    marks = []
    for hours in (0, 1):
        at = NOW + timedelta(hours=hours)
        for _ in range(FEW_SESSIONS + 1):
            session = new_session(account.id, created_at=at)
            assert await storage.logins.start(session, password_hash="hash", new_hash=None)
        (mark,) = await storage.sessions.transact(lambda tx: tx.revoke_all(account.id, now=at))  # noqa: B023 - run at once
        marks.append(mark)

    async with storage.revocations.pending(1000) as pending:
        assert marks[1] in pending
        assert marks[0] not in pending


async def test_a_login_beyond_the_limit_revokes_the_oldest_session(storage: Storage) -> None:
    account, stranger = await storage.add(), await storage.log_in(await storage.add())
    sessions = [await storage.log_in(account, NOW + timedelta(seconds=second)) for second in range(MAX_SESSIONS)]
    assert await storage.state(sessions[0]) is not None

    at = NOW + timedelta(hours=1)
    started = await storage.logins.start(new_session(account.id, created_at=at), password_hash="hash", new_hash=None)

    assert started.revoked == {sessions[0].id: (at + REVOCATION_KEPT).timestamp()}
    assert await storage.state(sessions[0]) is None
    assert None not in [await storage.state(session) for session in (*sessions[1:], stranger)]


async def test_expired_sessions_do_not_count(storage: Storage) -> None:
    account = await storage.add()
    lasting = await storage.log_in(account)
    for _ in range(MAX_SESSIONS - 1):
        expired = new_session(account.id, expires_at=NOW)
        assert await storage.logins.start(expired, password_hash="hash", new_hash=None)

    started = await storage.logins.start(new_session(account.id), password_hash="hash", new_hash=None)

    assert started.revoked == {}
    assert await storage.state(lasting) is not None
