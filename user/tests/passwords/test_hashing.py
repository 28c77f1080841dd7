"""Password hashes, and the threads that compute them."""

import asyncio
import os
import threading
from collections.abc import Iterator

import argon2
import pytest

from user_service.passwords import hashing
from user_service.passwords.hashing import NICENESS, HashingOverloaded, PasswordHasher, hashing_threads


@pytest.fixture
def hasher() -> Iterator[PasswordHasher]:
    hasher = PasswordHasher(1, max_waiting=3)
    yield hasher
    hasher.close()


async def test_a_hash_has_the_promised_parameters_and_a_salt_of_its_own(hasher: PasswordHasher) -> None:
    one, other = await hasher.hash("the same"), await hasher.hash("the same")

    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert one != other
    assert await hasher.verify(one, "the same")
    assert not await hasher.verify(one, "another")


async def test_no_password_matches_an_unknown_account_not_even_that_of_the_decoy(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hasher, "_decoy", await hasher.hash("known"))

    assert not await hasher.verify(None, "known")


async def test_an_unknown_account_costs_what_a_known_one_costs(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []

    def note(encoded: str, password: str) -> bool:
        verified.append(encoded)
        return matches(encoded, password)

    matches = hasher._matches
    monkeypatch.setattr(hasher, "_matches", note)
    await hasher.verify(await hasher.hash("known"), "x")
    await hasher.verify(None, "x")

    known, unknown = map(argon2.extract_parameters, verified)
    assert known == unknown


async def test_a_hash_of_other_parameters_is_outdated(hasher: PasswordHasher) -> None:
    assert hasher.is_outdated(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x"))
    assert not hasher.is_outdated(await hasher.hash("x"))


async def test_hashes_are_computed_by_a_fixed_number_of_threads_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasher = PasswordHasher(2)
    both = threading.Barrier(2)
    names = set()

    def meet(_encoded: str, _password: str) -> bool:
        # The barrier lets two threads pass together; a third thread would wait alone.
        both.wait(30)
        names.add(threading.current_thread().name)
        return True

    monkeypatch.setattr(hasher, "_matches", meet)
    await asyncio.gather(*(hasher.verify("hash", "x") for _ in range(6)))
    hasher.close()

    assert names == {"argon2_0", "argon2_1"}


async def test_the_event_loop_keeps_running_while_a_hash_is_computed(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash waits for an event that only the loop sets."""
    go_on = threading.Event()
    monkeypatch.setattr(hasher, "_matches", lambda _encoded, _password: go_on.wait(30))

    pending = asyncio.create_task(hasher.verify("hash", "x"))
    await asyncio.sleep(0)
    go_on.set()

    assert await pending


async def test_a_hash_beyond_the_queue_is_refused_at_once_until_the_queue_is_shorter(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(hasher, "_matches", lambda _encoded, _password: go_on.wait(30))
    pending = [asyncio.create_task(hasher.verify("hash", "x")) for _ in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(HashingOverloaded) as refusal:
        await hasher.verify("hash", "x")
    assert refusal.value.status == 503
    assert "Retry-After" in refusal.value.headers

    go_on.set()
    assert await asyncio.gather(*pending) == [True] * 3
    assert await hasher.verify("hash", "x")


async def test_hashing_threads_give_way_to_the_event_loop(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    niceness = []

    def note(_encoded: str, _password: str) -> bool:
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return True

    monkeypatch.setattr(hasher, "_matches", note)
    await hasher.verify("hash", "x")

    assert niceness == [NICENESS]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < NICENESS


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (8, 7)])
def test_one_core_stays_free(cores: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_cores", lambda: cores)

    assert hashing_threads() == threads
