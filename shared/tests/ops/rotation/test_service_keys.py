"""No message is lost in a rotation, whatever moment a worker picks a file up and whatever write is the last one."""

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from servicekit.observability.key_metrics import KeyState
from servicekit.ops.rotation import journal, pairs
from servicekit.ops.rotation.errors import AlreadyRotating, RotationError, WorkersDisagree
from servicekit.ops.rotation.service_keys import ServiceKeys
from servicekit.ops.rotation.workers import Demand
from servicekit.sealing.key_files import ensure_keys
from servicekit.sealing.keyring import Keyring
from servicekit.testing.sealed import Pair as Calls

CATALOG = {"a": Calls("a", ("b", "c")), "b": Calls("b", ("a",)), "c": Calls("c")}
PAIRS = [("a", "b"), ("a", "c"), ("b", "a")]
WORKERS = 3


class Killed(BaseException):
    """As SIGKILL: nothing of the rotation catches it."""


class World:
    """Three workers of each service, which read their files again in any order, also in the middle of a step.

    After everything that happens, each caller's key has to be one that each callee opens, and the keys of messages
    that are still on their way have to be held on both sides.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.said: list[str] = []
        self.under_way: set[tuple[str, str, str]] = set()
        self.writes = 0
        self.killed_at: int | None = None
        ensure_keys(root, CATALOG)
        self.workers = {service: [self._started(service) for _ in range(WORKERS)] for service in CATALOG}

    def _started(self, service: str) -> Keyring:
        return Keyring(service, self.root / service)

    def seals(self, caller: str, callee: str) -> set[str]:
        return {worker.sealing_key(caller, callee).id for worker in self.workers[caller]}

    def check(self) -> None:
        """Let every worker send a message, and see that all that are under way can be opened and answered."""
        for caller, callee in PAIRS:
            self.under_way |= {(caller, callee, key) for key in self.seals(caller, callee)}
        for caller, callee, key in self.under_way:
            for worker in (*self.workers[caller], *self.workers[callee]):
                assert worker.opening_key(caller, callee, key) is not None, f"{caller}--{callee}: {key} is lost"

    def disturb(self) -> None:
        """Let some workers notice a change, and some restart."""
        for service, workers in self.workers.items():
            for number in range(WORKERS):
                if self.random.random() < 0.4:
                    workers[number].refresh()
                if self.random.random() < 0.1:
                    workers[number] = self._started(service)
                self.check()

    def before_write(self) -> None:
        if self.writes == self.killed_at:
            raise Killed
        self.writes += 1

    async def require(self, services: Collection[str]) -> None:
        assert set(services) <= set(CATALOG)

    async def reach(self, demands: Sequence[Demand]) -> None:
        everyone = [(service, worker) for service, workers in self.workers.items() for worker in workers]
        self.random.shuffle(everyone)
        for service, worker in everyone:
            worker.refresh()
            self.check()
            held = {pairs.pair_name(*pair): ids for pair, ids in worker.key_ids().items()}
            states = {
                name: {key: KeyState.IN_USE if key == ids[0] else KeyState.HELD for key in ids}
                for name, ids in held.items()
            }
            assert all(demand.is_met_by(states) for demand in demands if demand.concerns(service))

    def rotate(self, only: str = "") -> Awaitable[None]:
        return ServiceKeys(self.root, self, say=self.said.append, message_seconds=0).rotate(only)

    def keys(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return the keys of each pair after a fresh start, which are the same on both sides."""
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for service in CATALOG:
            for pair, ids in self._started(service).key_ids().items():
                assert found.setdefault(pair, ids) == ids
        return found


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], World]:
    def make(seed: int) -> World:
        world = World(tmp_path / str(seed), seed)

        def disturbed(write: Callable[..., None]) -> Callable[..., None]:
            def write_and_disturb(*arguments: Any) -> None:
                world.before_write()
                write(*arguments)
                world.disturb()

            return write_and_disturb

        async def expire(_self: ServiceKeys) -> None:
            world.disturb()
            world.under_way.clear()

        monkeypatch.setattr(pairs, "write_key_file", disturbed(write_key_file))
        monkeypatch.setattr(journal, "write_key_file", disturbed(write_key_file))
        monkeypatch.setattr(ServiceKeys, "_let_messages_expire", expire)
        return world

    write_key_file = pairs.write_key_file
    return make


@pytest.mark.parametrize("seed", range(5))
async def test_every_message_can_be_opened_at_every_moment(make_world: Callable[[int], World], seed: int) -> None:
    world = make_world(seed)
    before = world.keys()
    await world.rotate()

    after = world.keys()
    assert all(len(after[pair]) == 1 and after[pair] != before[pair] for pair in PAIRS)
    assert not (world.root / journal.FILE).exists()


# One write of the journal; three steps for two sides of three pairs.
@pytest.mark.parametrize("write", range(1 + 3 * 2 * len(PAIRS)))
async def test_a_rotation_killed_before_any_write_is_finished_by_the_next_one(
    make_world: Callable[[int], World], write: int
) -> None:
    world = make_world(write)
    before = world.keys()
    world.killed_at = write
    with pytest.raises(Killed):
        await world.rotate()
    world.killed_at = None
    world.disturb()
    targets = journal.Journal(world.root).read()
    await world.rotate()

    after = world.keys()
    assert all(len(after[pair]) == 1 and after[pair] != before[pair] for pair in PAIRS)
    # The keys that the first attempt had chosen: nothing is begun a second time.
    assert not targets or {pairs.pair_name(*pair): ids[0] for pair, ids in after.items()} == targets


async def test_one_pair_alone(make_world: Callable[[int], World]) -> None:
    world = make_world(0)
    before = world.keys()
    await world.rotate("a--c")

    after = world.keys()
    assert {pair for pair in PAIRS if after[pair] != before[pair]} == {("a", "c")}


async def test_another_choice_of_pairs_comes_after_what_was_interrupted(make_world: Callable[[int], World]) -> None:
    world = make_world(0)
    before = world.keys()
    world.killed_at = 4
    with pytest.raises(Killed):
        await world.rotate("a--c")
    world.killed_at = None
    await world.rotate("b--a")

    after = world.keys()
    assert {pair for pair in PAIRS if after[pair] != before[pair]} == {("a", "c"), ("b", "a")}
    assert all(len(ids) == 1 for ids in after.values())


async def test_an_unknown_pair_is_refused_with_the_names_of_the_others(make_world: Callable[[int], World]) -> None:
    world = make_world(0)
    with pytest.raises(RotationError, match="a--b, a--c, b--a"):
        await world.rotate("c--a")
    assert world.writes == 0


async def test_a_second_rotation_at_the_same_time_is_refused(make_world: Callable[[int], World]) -> None:
    world = make_world(0)
    with journal.only_rotation(world.root), pytest.raises(AlreadyRotating):
        await world.rotate()
    assert world.writes == 0
    await world.rotate()


async def test_when_workers_do_not_follow_everything_stays_usable(
    make_world: Callable[[int], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(0)
    before = world.keys()

    async def never(_demands: Sequence[Demand]) -> None:
        raise WorkersDisagree

    with monkeypatch.context() as patch:
        patch.setattr(world, "reach", never)
        with pytest.raises(WorkersDisagree):
            await world.rotate()
    world.disturb()
    assert all(after[:1] == before[pair] and len(after) == 2 for pair, after in world.keys().items())
    await world.rotate()
    assert all(len(ids) == 1 for ids in world.keys().values())


async def test_a_damaged_journal_stops_the_rotation(make_world: Callable[[int], World]) -> None:
    world = make_world(0)
    for text in (b"{", b"[]", b'{"targets": 1}', b'{"targets": {"a--b": 1}}'):
        (world.root / journal.FILE).write_bytes(text)
        with pytest.raises(RotationError, match="remove it"):
            await world.rotate()
    assert world.writes == 0


async def test_a_directory_without_keys_is_named(tmp_path: Path) -> None:
    with pytest.raises(RotationError, match="missing"), journal.only_rotation(tmp_path / "missing"):
        pass
