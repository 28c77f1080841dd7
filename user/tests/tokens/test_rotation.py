"""A new signing key is known to everybody before it signs, and an old one until its last token has expired."""

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

# The world's clock runs ahead of ours.
_TIMELESS: Final[Any] = {"verify_exp": False, "verify_iat": False}


class Killed(BaseException):
    """As SIGKILL: nothing of the rotation catches it."""


class Copy:
    """The keys of another service's worker: what it fetched last, and nothing newer."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = parse_jwks(json.loads(keys.jwks))

    async def key(self, kid: str) -> EllipticCurvePublicKey | None:
        return self._keys.get(kid)


class World:
    """Two workers of the user service and one of another service, which fetches keys when it has to hold them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ahead = timedelta()
        self.steps: list[str] = []
        self.killed_at: str | None = None
        ensure_signing_key(directory)
        self.signers = [SigningKeys(directory, clock=self.clock) for _ in range(2)]
        self.elsewhere = Copy(self.signers[0])
        self.tokens: list[tuple[datetime, str]] = []

    def clock(self) -> datetime:
        return utc_now() + self.ahead

    def step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.killed_at:
            raise Killed

    async def check(self) -> None:
        """Sign a token in every worker, and see that every living token verifies in every service."""
        for keys in self.signers:
            issued = TokenIssuer(keys, "issuer", "audience")
            now = self.clock()
            token = issued.issue(user_id=uuid4(), session_id=uuid4(), role="user", now=now)
            self.tokens.append((now + LIFETIME, token))
        for expires_at, token in self.tokens:
            if expires_at > self.clock():
                for source in (*self.signers, self.elsewhere):
                    key = await source.key(jwt.get_unverified_header(token)["kid"])
                    assert key is not None
                    jwt.decode(token, key, algorithms=["ES256"], audience="audience", options=_TIMELESS)

    async def require(self, services: Collection[str]) -> None:
        assert list(services) == ["user"]

    async def reach(self, demands: Sequence[Demand]) -> None:
        (demand,) = demands
        self.step(f"{demand.need.value} {'everywhere' if demand.services is None else 'user'}")
        if demand.services is None:
            self.elsewhere = Copy(self.signers[-1])
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
        self.elsewhere = Copy(self.signers[0])


def json_ids(keys: SigningKeys) -> set[str]:
    return {key["kid"] for key in json.loads(keys.jwks)["keys"]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "jwt")


async def test_every_living_token_verifies_at_every_moment_of_a_rotation(world: World) -> None:
    old = current_id(world.directory)
    await world.check()
    await world.rotate()
    new = current_id(world.directory)

    assert new != old
    assert world.steps == [f"{Need.HELD.value} user", f"{Need.HELD.value} everywhere", f"{Need.IN_USE.value} user"]
    assert all(json_ids(keys) == {old, new} and keys.current.id == new for keys in world.signers)
    world.advance(LIFETIME)
    await world.check()
    assert all(json_ids(keys) == {old, new} for keys in world.signers)


async def test_an_old_key_leaves_by_itself_when_its_last_token_has_expired(world: World) -> None:
    await world.rotate()
    new = current_id(world.directory)
    world.advance(LIFETIME + MARGIN)

    assert all(json_ids(keys) == {new} for keys in world.signers)
    assert sorted(path.name for path in world.directory.glob("[!.]*")) == sorted([f"{new}.pem", "current"])
    await world.check()


async def test_an_old_key_leaves_although_the_service_may_not_remove_its_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.rotate()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    world.advance(LIFETIME + MARGIN)
    new = current_id(world.directory)
    assert all(json_ids(keys) == {new} for keys in world.signers)
    assert json_ids(SigningKeys(world.directory, clock=world.clock)) == {new}


@pytest.mark.parametrize("step", range(3))
async def test_a_rotation_killed_in_any_phase_is_finished_by_the_next_one(world: World, step: int) -> None:
    old = current_id(world.directory)
    world.killed_at = [f"{Need.HELD.value} user", f"{Need.HELD.value} everywhere", f"{Need.IN_USE.value} user"][step]
    with pytest.raises(Killed):
        await world.rotate()
    world.advance(timedelta())
    await world.check()
    world.killed_at = None
    await world.rotate()

    new = current_id(world.directory)
    assert all(json_ids(keys) == {old, new} for keys in world.signers)
    assert not (world.directory / FILE).exists()
    world.advance(LIFETIME + MARGIN)
    assert all(json_ids(keys) == {new} for keys in world.signers)


@pytest.mark.parametrize("name", ["write_signing_key", "make_current", "retire_others"])
async def test_a_rotation_killed_before_any_write_is_finished_by_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rotation, name, kill)
        with pytest.raises(Killed):
            await world.rotate()
    await world.check()
    await world.rotate()
    # The two keys of one rotation: the first attempt's was used, not a third one.
    assert len(list(world.directory.glob("*.pem"))) == 2
    world.advance(LIFETIME + MARGIN)
    assert all(len(json_ids(keys)) == 1 for keys in world.signers)


async def test_a_rotation_soon_after_another_keeps_the_time_of_the_first_old_key(world: World) -> None:
    first = current_id(world.directory)
    await world.rotate()
    second = current_id(world.directory)
    world.advance(timedelta(minutes=10))
    await world.rotate()
    third = current_id(world.directory)
    assert all(json_ids(keys) == {first, second, third} for keys in world.signers)
    world.advance(LIFETIME + MARGIN - timedelta(minutes=10))
    assert all(json_ids(keys) == {second, third} for keys in world.signers)


async def test_two_rotations_at_once_are_refused(world: World) -> None:
    with only_rotation(world.directory), pytest.raises(AlreadyRotating):
        await world.rotate()
    assert world.steps == []


async def test_the_key_signs_only_when_gateways_had_time_to_fetch_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = current_id(world.directory)
    waiting = asyncio.Event()

    async def forever(_self: SigningKeyRotation) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SigningKeyRotation, "_let_gateways_fetch", forever)
    task = asyncio.create_task(world.rotate())
    await waiting.wait()
    assert current_id(world.directory) == old
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_key_that_signs_does_not_retire(tmp_path: Path) -> None:
    """An operator who goes back to an old key is not to lose it."""
    ensure_signing_key(tmp_path)
    current = current_id(tmp_path)
    retire_others(tmp_path, "another", utc_now())
    assert json_ids(SigningKeys(tmp_path)) == {current}


@pytest.mark.parametrize("text", ["", "soon", "2026-11-21T10:00:00"])
def test_a_time_that_cannot_be_read_keeps_the_keys_that_are_in_use(tmp_path: Path, text: str) -> None:
    ensure_signing_key(tmp_path)
    other = write_signing_key(tmp_path)
    keys = SigningKeys(tmp_path)
    (tmp_path / f"{other}.retire-after").write_text(text)
    keys.refresh()

    assert other in json_ids(keys)
    with pytest.raises(SigningKeyError, match="retire-after"):
        SigningKeys(tmp_path)


def test_a_key_that_another_worker_removes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_signing_key(tmp_path)
    monkeypatch.setattr(signing_keys, "_names", lambda _directory: [current_id(tmp_path), "removed"])
    assert json_ids(SigningKeys(tmp_path)) == {current_id(tmp_path)}
