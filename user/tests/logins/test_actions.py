"""Decisions about logins, on stores in memory: who gets a session, and how many guesses are answered."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid4

import argon2
import jwt
import pytest

from servicekit.core.errors import TooManyRequests
from user.tests.fakes import CountingHasher, MemoryAccounts, MemoryDatabase, MemoryLogins, UnavailableValkey
from user_service.accounts.actions import NewAccount
from user_service.client import Client
from user_service.logins.actions import Credentials, InvalidCredentials, LoginActions, NewSession
from user_service.sessions.refresh_tokens import digest
from user_service.sessions.rules import IDLE, MAX_SESSIONS, Revocations
from user_service.sessions.schemas import TokenPair
from user_service.throttling import rules
from user_service.throttling.failure_limits import FailureLimit, FailureLimits
from user_service.throttling.guard import PasswordGuard
from user_service.tokens.issuer import TokenIssuer

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOME = "192.0.2.1"
PASSWORD = "caf\u00e9 au lait"
WRONG = "a wrong password"


class World:
    """One account, Ada's, and the actions on its database. Limits count in memory, as without Valkey."""

    def __init__(self, hasher: CountingHasher, issuer: TokenIssuer) -> None:
        self.database = MemoryDatabase()
        self.announced: list[Revocations] = []
        self.hasher = hasher
        self.store = MemoryLogins(self.database)
        guard = PasswordGuard(FailureLimits(UnavailableValkey(), service="test"), hasher.verify)
        self.actions = LoginActions(
            self.store, guard=guard, hasher=hasher, issuer=issuer, announce=self.announced.append, clock=lambda: NOW
        )
        self.ada = uuid4()

    async def add_ada(self) -> None:
        password_hash = await self.hasher.hash(PASSWORD)
        async with MemoryAccounts(self.database).begin() as transaction:
            await transaction.add(NewAccount(self.ada, "Ada", "Ada@example.com", "Ada", password_hash, NOW))

    async def log_in(self, name: str = "Ada", password: str = PASSWORD, *, address: str = HOME) -> TokenPair:
        return await self.actions.log_in(Credentials(name, password), Client(address, "tests"))

    async def guess(self, name: str, times: int, *, address: str = "203.0.113.9") -> Counter[str]:
        """Return how many guesses were answered and how many were refused."""
        outcomes = Counter[str]()
        for _ in range(times):
            try:
                await self.log_in(name, WRONG, address=address)
            except InvalidCredentials:
                outcomes["answered"] += 1
            except TooManyRequests:
                outcomes["refused"] += 1
        return outcomes


@pytest.fixture
async def world(hasher: CountingHasher, issuer: TokenIssuer) -> World:
    world = World(hasher, issuer)
    await world.add_ada()
    return world


@pytest.mark.parametrize("name", ["Ada", "ADA", "Ada@example.com", "ada@EXAMPLE.com"])
async def test_a_right_password_starts_a_session_under_any_spelling_of_the_name(world: World, name: str) -> None:
    tokens = await world.log_in(name)

    claims = jwt.decode(tokens.access_token, options={"verify_signature": False})
    assert (claims["sub"], claims["roles"], claims["iat"]) == (str(world.ada), ["user"], NOW.timestamp())
    session = world.database.tables.sessions[UUID(claims["sid"])]
    assert (session.user_id, session.expires_at) == (world.ada, NOW + IDLE)
    assert world.database.tables.tokens.keys() == {digest(tokens.refresh_token)}


async def test_accents_may_be_typed_in_any_unicode_form(world: World) -> None:
    await world.log_in(password="cafe\u0301 au lait")


@pytest.mark.parametrize(
    "name", ["Ada", "Ada@example.com", "nobody", "nobody@example.com", "no name at all", "nul\x00"]
)
async def test_every_wrong_login_is_refused_after_the_same_work(world: World, name: str) -> None:
    with pytest.raises(InvalidCredentials):
        await world.log_in(name, WRONG)
    assert world.hasher.verified == 1
    assert world.database.tables.sessions == {}


async def test_a_hash_of_old_parameters_is_renewed_and_no_other(world: World) -> None:
    user = world.database.tables.users[world.ada]
    await world.log_in()
    assert world.hasher.hashed == 1

    user.password_hash = old = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    await world.log_in()

    renewed = world.database.tables.users[world.ada].password_hash
    assert renewed != old
    assert not world.hasher.is_outdated(renewed)
    assert await world.hasher.verify(renewed, PASSWORD)


async def test_no_session_starts_when_the_password_changes_during_the_login(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = world.store.start

    async def change_then_start(session: NewSession, *, password_hash: str, new_hash: str | None) -> str | None:
        world.database.tables.users[world.ada].password_hash = "changed"
        return await start(session, password_hash=password_hash, new_hash=new_hash)

    monkeypatch.setattr(world.store, "start", change_then_start)

    with pytest.raises(InvalidCredentials):
        await world.log_in()


@pytest.mark.parametrize("name", ["Ada", "nobody"])
async def test_ten_guesses_per_account_and_address_are_answered_and_further_ones_cost_no_hash(
    world: World, name: str
) -> None:
    assert await world.guess(name, 12) == {"answered": 10, "refused": 2}
    assert world.hasher.verified == 10


@pytest.mark.parametrize(
    "spellings",
    [("Ada", "ADA", " ada\u200b"), ("ada@example.com", "ADA@Example.com "), ("x@faß.example", "X@xn--fa-hia.example")],
    ids=["name", "address", "unknown address"],
)
async def test_all_spellings_of_a_name_or_an_address_share_one_limit(world: World, spellings: tuple[str, ...]) -> None:
    outcomes = Counter[str]()
    for name in spellings:
        outcomes += await world.guess(name, 7)
    assert outcomes == {"answered": 10, "refused": 7 * len(spellings) - 10}


@pytest.mark.parametrize("limit", ["PER_ACCOUNT_AND_ADDRESS", "PER_ACCOUNT"])
@pytest.mark.parametrize(
    ("guessed", "other"), [("Ada", "Ada@example.com"), ("Ada@example.com", "Ada"), ("ada@example.com", "nobody")]
)
async def test_guesses_do_not_tell_which_name_and_address_belong_together(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str, guessed: str, other: str
) -> None:
    monkeypatch.setattr(rules, limit, FailureLimit(limit, 5, 900))
    await world.guess(guessed, 8)

    assert await world.guess(other, 8) == {"answered": 5, "refused": 3}


async def test_a_right_password_ends_the_count_of_its_network_under_every_name(world: World) -> None:
    for failed in ("Ada", "ada@example.com", "Ada"):
        await world.guess(failed, 9, address=HOME)
        await world.log_in("Ada@example.com")
        assert await world.guess(failed, 1, address=HOME) == {"answered": 1}
        await world.log_in(failed)
    assert await world.guess("Ada", 12, address=HOME) == {"answered": 10, "refused": 2}


async def test_a_right_password_ends_no_count_of_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PER_ADDRESS", FailureLimit("address", 20, 900))
    outcomes = Counter[str]()
    for number in range(25):
        outcomes += await world.guess(f"nobody-{number % 3}", 1, address=HOME)
        if outcomes["answered"] < 20:
            await world.log_in()
    assert outcomes == {"answered": 20, "refused": 5}


async def test_guesses_from_other_addresses_cannot_lock_the_owner_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PER_ACCOUNT", FailureLimit("account", 30, 3600))
    await world.log_in(address=HOME)
    for number in range(3):
        await world.guess("Ada", 10, address=f"203.0.113.{number}")

    # The account's own limit is used up: no unknown address may try, but the owner's address may.
    with pytest.raises(TooManyRequests):
        await world.log_in(address="203.0.113.77")
    await world.log_in(address=HOME)
    assert await world.guess("Ada", 1, address=HOME) == {"answered": 1}


async def test_below_the_accounts_own_limit_the_owner_may_log_in_from_anywhere(world: World) -> None:
    for number in range(3):
        await world.guess("Ada", 12, address=f"203.0.113.{number}")

    await world.log_in(address="198.51.100.1")


async def test_an_unknown_name_has_an_accounts_limit_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PER_ACCOUNT", FailureLimit("account", 15, 3600))

    outcomes = Counter[str]()
    for number in range(3):
        outcomes += await world.guess("nobody", 8, address=f"203.0.113.{number}")
    assert outcomes == {"answered": 15, "refused": 9}


async def test_one_address_cannot_try_many_accounts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PER_ADDRESS", FailureLimit("address", 20, 900))

    outcomes = Counter[str]()
    for number in range(25):
        outcomes += await world.guess(f"nobody-{number}", 1)
    assert outcomes == {"answered": 20, "refused": 5}
    with pytest.raises(TooManyRequests):
        await world.log_in(address="203.0.113.9")
    await world.log_in(address="203.0.113.10")


async def test_the_addresses_of_one_ipv6_subscriber_count_as_one(world: World) -> None:
    outcomes = Counter[str]()
    for number in range(12):
        outcomes += await world.guess("nobody", 1, address=f"2001:db8:1:2::{number:x}")
    assert outcomes == {"answered": 10, "refused": 2}
    assert await world.guess("nobody", 1, address="2001:db8:1:3::1") == {"answered": 1}


def test_the_limits_are_those_that_we_promise() -> None:
    limits = [rules.PER_ACCOUNT_AND_ADDRESS, rules.PER_ADDRESS, rules.PER_ACCOUNT]
    assert [(limit.count, limit.seconds) for limit in limits] == [(10, 15 * 60), (100, 15 * 60), (100, 60 * 60)]


async def test_a_login_beyond_the_limit_announces_the_session_that_it_replaces(world: World) -> None:
    for _ in range(MAX_SESSIONS):
        await world.log_in()
    assert not any(world.announced)

    await world.log_in()

    assert len(world.database.tables.sessions) == MAX_SESSIONS
    (revoked,) = world.announced[-1]
    assert revoked not in world.database.tables.sessions
