"""A keyring gives the right key, follows its files, and never swaps good keys for a damaged file."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from servicekit.sealing import keyring as keyring_module
from servicekit.sealing.key_files import KeyFileError, file_name, new_key, write_key_file
from servicekit.sealing.keyring import RELOAD_FAILURES, Keyring, UnknownKeyError

PAIR = ("user", "analytics")
FILE = file_name(*PAIR)


def _write(directory: Path, *key_ids: str, caller: str = "user", callee: str = "analytics") -> Path:
    keys = [new_key(datetime.now(UTC)) | {"id": key_id} for key_id in key_ids]
    path = directory / file_name(caller, callee)
    write_key_file(path, orjson.dumps({"caller": caller, "callee": callee, "keys": keys}))
    return path


def _failures() -> float:
    return float(RELOAD_FAILURES._value.get())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    _write(tmp_path, "one")
    return tmp_path


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


def test_the_first_key_seals_and_all_open(tmp_path: Path) -> None:
    _write(tmp_path, "new", "old")
    keyring = Keyring("user", tmp_path)

    assert keyring.sealing_key(*PAIR).id == "new"
    assert [getattr(keyring.opening_key(*PAIR, key_id), "id", None) for key_id in ("new", "old", "none")] == [
        "new",
        "old",
        None,
    ]
    assert keyring.key_ids() == {PAIR: ("new", "old")}


def test_each_direction_has_its_own_keys(directory: Path) -> None:
    keyring = Keyring("user", directory)

    assert keyring.has_pair("user", "analytics")
    assert not keyring.has_pair("analytics", "user")
    assert keyring.opening_key("analytics", "user", "one") is None
    with pytest.raises(UnknownKeyError, match="analytics to user"):
        keyring.sealing_key("analytics", "user")


def test_a_service_does_not_start_with_a_pair_of_other_services(directory: Path) -> None:
    with pytest.raises(KeyFileError, match="notes takes no part"):
        Keyring("notes", directory)


def test_a_service_does_not_start_with_a_damaged_file_or_without_its_directory(directory: Path) -> None:
    (directory / FILE).write_bytes(b"{")
    with pytest.raises(KeyFileError):
        Keyring("user", directory)
    with pytest.raises(OSError, match="No such file"):
        Keyring("user", directory / "missing")


def test_files_that_are_not_key_files_are_not_read(directory: Path) -> None:
    (directory / ".hidden.json").write_bytes(b"{")
    (directory / f".{FILE}.0123.tmp").write_bytes(b"{")
    (directory / "README").write_bytes(b"{")

    assert Keyring("user", directory).key_ids() == {PAIR: ("one",)}


def test_a_changed_file_is_read_again(directory: Path) -> None:
    keyring = Keyring("user", directory)
    old = keyring.sealing_key(*PAIR)
    _write(directory, "two", "one")
    _write(directory, "three", caller="analytics", callee="user")

    keyring.refresh()

    assert keyring.key_ids() == {PAIR: ("two", "one"), ("analytics", "user"): ("three",)}
    assert keyring.sealing_key(*PAIR) is not old


def test_a_change_that_keeps_size_and_modification_time_is_seen(directory: Path) -> None:
    keyring = Keyring("user", directory)
    before = (directory / FILE).stat()
    replacement = _write(directory, "two")
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert replacement.stat().st_size == before.st_size

    keyring.refresh()

    assert keyring.sealing_key(*PAIR).id == "two"


def test_unchanged_files_are_not_read_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = Keyring("user", directory)
    before = keyring.sealing_key(*PAIR)

    def fail(_: Path) -> None:
        raise AssertionError("an unchanged file was read")

    monkeypatch.setattr(keyring_module, "read_key_file", fail)
    keyring.refresh()

    assert keyring.sealing_key(*PAIR) is before


def test_a_damaged_file_keeps_the_last_good_keys_and_is_counted_once(directory: Path) -> None:
    keyring = Keyring("user", directory)
    text = (directory / FILE).read_bytes()
    _write(directory, "three", caller="analytics", callee="user")
    before = _failures()

    (directory / FILE).write_bytes(text[: len(text) // 2])
    for _ in range(3):
        keyring.refresh()

    assert keyring.key_ids() == {PAIR: ("one",), ("analytics", "user"): ("three",)}
    assert _failures() == before + 1

    _write(directory, "two")
    keyring.refresh()
    assert keyring.sealing_key(*PAIR).id == "two"


def test_a_missing_directory_keeps_the_last_good_keys_and_is_counted_once(directory: Path) -> None:
    keyring = Keyring("user", directory)
    before = _failures()
    moved = directory.with_name("away")
    directory.rename(moved)
    for _ in range(3):
        keyring.refresh()
    assert keyring.sealing_key(*PAIR).id == "one"
    assert _failures() == before + 1

    moved.rename(directory)
    _write(directory, "two")
    keyring.refresh()
    assert keyring.sealing_key(*PAIR).id == "two"


def test_the_keys_of_a_removed_file_are_dropped(directory: Path) -> None:
    keyring = Keyring("user", directory)
    (directory / FILE).unlink()

    keyring.refresh()

    assert not keyring.has_pair(*PAIR)
    assert keyring.opening_key(*PAIR, "one") is None


def test_a_pair_of_other_services_that_appears_later_is_ignored(directory: Path) -> None:
    keyring = Keyring("user", directory)
    _write(directory, "foreign", caller="notes", callee="assets")

    keyring.refresh()

    assert keyring.key_ids() == {PAIR: ("one",)}


async def test_changes_arrive_by_themselves_while_the_keyring_watches(directory: Path) -> None:
    keyring = Keyring("user", directory)
    # Clients of other tests may have tasks of their own.
    before = asyncio.all_tasks()
    async with keyring.watching():
        _write(directory, "two", "one")
        await _until(lambda: keyring.sealing_key(*PAIR).id == "two")

        (directory / FILE).write_bytes(b"{")
        failures = _failures()
        await _until(lambda: _failures() > failures)
        assert keyring.sealing_key(*PAIR).id == "two"

        _write(directory, "three")
        await _until(lambda: keyring.sealing_key(*PAIR).id == "three")

    assert not [task for task in asyncio.all_tasks() - before if "sealing/keyring" in repr(task)]


def test_changes_are_checked_more_often_than_once_a_second() -> None:
    assert keyring_module.CHECK_SECONDS <= 0.5
