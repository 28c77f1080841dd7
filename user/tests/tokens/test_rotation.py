"""Rotation: every service knows a new key before it signs, and an old key until its last token has expired."""

import asyncio
import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from servicekit.auth.access_tokens import parse_jwks
from servicekit.core.clock import utc_now
from servicekit.observability.key_metrics import ACCESS_TOKENS, KeyState
from servicekit.ops.rotation.errors import AlreadyRotating
from servicekit.ops.rotation.journal import FILE, only_rotation
from servicekit.ops.rotation.workers import Demand, Need
from user_service.tokens import rotation, signing_keys
from user_service.tokens.issuer import LIFETIME, TokenIssuer
from user_service.tokens.rotation import MARGIN, SigningKeyRotation
from user_service.tokens.signing_keys import (
    SigningKeyError,
    SigningKeys,
    current_id,
    ensure_signing_key,
    retire_others,
    write_signing_key,
)

# The fleet's clock runs ahead of the real one.
_TIMELESS: Final[Any] = {"verify_exp": False, "verify_iat": False}


class Killed(BaseException):
    """Stands for SIGKILL: the rotation does not catch it."""


class Copy:
    """The keys that a worker of another service has fetched last."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = parse_jwks(json.loads(keys.jwks))

    async def key(self, kid: str) -> EllipticCurvePublicKey | None:
        return self._keys.get(kid)


class FakeFleet:
    """Two workers of the user service and one of another service, which fetches keys when it is asked for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ahead = timedelta()
        self.steps: list[str] = []
        self.killed_at: str | None = None
        ensure_signing_key(directory)
        self.signers = [SigningKeys(directory, clock=self.clock) for _ in range(2)]
        self.other_service = Copy(self.signers[0])
        self.tokens: list[tuple[datetime, str]] = []

    def clock(self) -> datetime:
        return utc_now() + self.ahead

    def step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.killed_at:
            raise Killed

    async def check(self) -> None:
        """Sign a token in every worker, and check that every unexpired token verifies in every service."""
        for keys in self.signers:
            issued = TokenIssuer(keys, "issuer", "audience")
            now = self.clock()
            token = issued.issue(user_id=uuid4(), session_id=uuid4(), role="user", now=now)
            self.tokens.append((now + LIFETIME, token))
        for expires_at, token in self.tokens:
            if expires_at > self.clock():
                for source in (*self.signers, self.other_service):
                    key = await source.key(jwt.get_unverified_header(token)["kid"])
                    assert key is not None
                    jwt.decode(token, key, algorithms=["ES256"], audience="audience", options=_TIMELESS)

    async def require(self, services: Collection[str]) -> None:
        assert list(services) == ["user"]

    async def reach(self, demands: Sequence[Demand]) -> None:
        (demand,) = demands
        self.step(f"{demand.need.value} {'everywhere' if demand.services is None else 'user'}")
        if demand.services is None:
            self.other_service = Copy(self.signers[-1])
        for keys in self.signers:
            keys.refresh()
            await self.check()
            states = dict.fromkeys(json_ids(keys), int(KeyState.HELD)) | {keys.current.id: int(KeyState.IN_USE)}
            assert demand.is_met_by({ACCESS_TOKENS: states})

    async def rotate(self) -> None:
        await SigningKeyRotation(
            self.directory, self, service="user", say=lambda _text: None, gateway_seconds=0, clock=self.clock
        ).rotate()

    def advance(self, by: timedelta) -> None:
        self.ahead += by
        for keys in self.signers:
            keys.refresh()
        self.other_service = Copy(self.signers[0])


def json_ids(keys: SigningKeys) -> set[str]:
    return {key["kid"] for key in json.loads(keys.jwks)["keys"]}


@pytest.fixture
def fleet(tmp_path: Path) -> FakeFleet:
    return FakeFleet(tmp_path / "jwt")


async def test_every_unexpired_token_verifies_at_every_moment_of_a_rotation(fleet: FakeFleet) -> None:
    old = current_id(fleet.directory)
    await fleet.check()
    await fleet.rotate()
    new = current_id(fleet.directory)

    assert new != old
    assert fleet.steps == [f"{Need.HELD.value} user", f"{Need.HELD.value} everywhere", f"{Need.IN_USE.value} user"]
    assert all(json_ids(keys) == {old, new} and keys.current.id == new for keys in fleet.signers)
    fleet.advance(LIFETIME)
    await fleet.check()
    assert all(json_ids(keys) == {old, new} for keys in fleet.signers)


async def test_an_old_key_is_forgotten_when_its_last_token_has_expired(fleet: FakeFleet) -> None:
    await fleet.rotate()
    new = current_id(fleet.directory)
    fleet.advance(LIFETIME + MARGIN)

    assert all(json_ids(keys) == {new} for keys in fleet.signers)
    assert sorted(path.name for path in fleet.directory.glob("[!.]*")) == sorted([f"{new}.pem", "current"])
    await fleet.check()


async def test_an_old_key_is_forgotten_although_the_service_may_not_remove_its_file(
    fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.rotate()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    fleet.advance(LIFETIME + MARGIN)
    new = current_id(fleet.directory)
    assert all(json_ids(keys) == {new} for keys in fleet.signers)
    assert json_ids(SigningKeys(fleet.directory, clock=fleet.clock)) == {new}


@pytest.mark.parametrize("step", range(3))
async def test_a_rotation_killed_in_any_phase_is_finished_by_the_next_one(fleet: FakeFleet, step: int) -> None:
    old = current_id(fleet.directory)
    fleet.killed_at = [f"{Need.HELD.value} user", f"{Need.HELD.value} everywhere", f"{Need.IN_USE.value} user"][step]
    with pytest.raises(Killed):
        await fleet.rotate()
    fleet.advance(timedelta())
    await fleet.check()
    fleet.killed_at = None
    await fleet.rotate()

    new = current_id(fleet.directory)
    assert all(json_ids(keys) == {old, new} for keys in fleet.signers)
    assert not (fleet.directory / FILE).exists()
    fleet.advance(LIFETIME + MARGIN)
    assert all(json_ids(keys) == {new} for keys in fleet.signers)


@pytest.mark.parametrize("name", ["write_signing_key", "make_current", "retire_others"])
async def test_a_rotation_killed_before_any_write_is_finished_by_the_next_one(
    fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rotation, name, kill)
        with pytest.raises(Killed):
            await fleet.rotate()
    await fleet.check()
    await fleet.rotate()
    # The second attempt has used the key of the first.
    assert len(list(fleet.directory.glob("*.pem"))) == 2
    fleet.advance(LIFETIME + MARGIN)
    assert all(len(json_ids(keys)) == 1 for keys in fleet.signers)


async def test_a_second_rotation_leaves_the_retirement_of_the_first_old_key_as_it_is(fleet: FakeFleet) -> None:
    first = current_id(fleet.directory)
    await fleet.rotate()
    second = current_id(fleet.directory)
    fleet.advance(timedelta(minutes=10))
    await fleet.rotate()
    third = current_id(fleet.directory)
    assert all(json_ids(keys) == {first, second, third} for keys in fleet.signers)
    fleet.advance(LIFETIME + MARGIN - timedelta(minutes=10))
    assert all(json_ids(keys) == {second, third} for keys in fleet.signers)


async def test_a_concurrent_rotation_is_refused(fleet: FakeFleet) -> None:
    with only_rotation(fleet.directory), pytest.raises(AlreadyRotating):
        await fleet.rotate()
    assert fleet.steps == []


async def test_a_key_signs_only_after_gateways_had_time_to_fetch_it(
    fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = current_id(fleet.directory)
    waiting = asyncio.Event()

    async def forever(_self: SigningKeyRotation) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SigningKeyRotation, "_let_gateways_fetch", forever)
    task = asyncio.create_task(fleet.rotate())
    await waiting.wait()
    assert current_id(fleet.directory) == old
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_key_that_signs_does_not_retire(tmp_path: Path) -> None:
    """An operator who returns to an old key must not lose it."""
    ensure_signing_key(tmp_path)
    current = current_id(tmp_path)
    retire_others(tmp_path, "another", utc_now())
    assert json_ids(SigningKeys(tmp_path)) == {current}


@pytest.mark.parametrize("text", ["", "soon", "2026-11-21T10:00:00"])
def test_an_unreadable_retirement_time_leaves_the_keys_in_use(tmp_path: Path, text: str) -> None:
    ensure_signing_key(tmp_path)
    other = write_signing_key(tmp_path)
    keys = SigningKeys(tmp_path)
    (tmp_path / f"{other}.retire-after").write_text(text)
    keys.refresh()

    assert other in json_ids(keys)
    with pytest.raises(SigningKeyError, match="retire-after"):
        SigningKeys(tmp_path)


def test_a_key_that_another_worker_removes_at_the_same_time_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_signing_key(tmp_path)
    monkeypatch.setattr(signing_keys, "_names", lambda _directory: [current_id(tmp_path), "removed"])
    assert json_ids(SigningKeys(tmp_path)) == {current_id(tmp_path)}
