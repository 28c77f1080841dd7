"""Key files are made once, whole and private, and unsafe ones are refused."""

import base64
import multiprocessing
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from opskit.catalog import read_catalog
from servicekit.sealing import key_files
from servicekit.sealing.key_files import KeyFileError, ensure_keys, file_name, read_key_file, write_key_file
from servicekit.testing.sealed import Pair

CATALOG = {"user": Pair("user", ("analytics",)), "analytics": Pair("analytics", ("user",)), "alone": Pair("alone")}
SECRET = base64.urlsafe_b64encode(bytes(range(32))).decode()
OTHER = base64.urlsafe_b64encode(bytes(range(32, 64))).decode()
GOOD = {"caller": "user", "callee": "analytics", "keys": [{"id": "a", "secret": SECRET}, {"id": "b", "secret": OTHER}]}


def _write(folder: Path, document: Any, name: str = "user--analytics.json") -> Path:
    path = folder / name
    path.write_bytes(document if isinstance(document, bytes) else orjson.dumps(document))
    return path


def _all_files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.json")}


def test_both_sides_of_every_call_get_the_same_new_key(tmp_path: Path) -> None:
    ensure_keys(tmp_path / "keys", CATALOG)

    root = tmp_path / "keys"
    files = _all_files(root)
    assert set(files) == {
        "user/user--analytics.json",
        "user/analytics--user.json",
        "analytics/user--analytics.json",
        "analytics/analytics--user.json",
    }
    for name in ("user--analytics.json", "analytics--user.json"):
        assert files[f"user/{name}"] == files[f"analytics/{name}"]
    ids = {read_key_file(root / "user" / name).keys[0].id for name in ("user--analytics.json", "analytics--user.json")}
    assert len(ids) == 2
    assert (root / "alone").is_dir()


@pytest.mark.needs("analytics")
def test_the_platforms_service_catalog_gives_keys(tmp_path: Path) -> None:
    ensure_keys(tmp_path, read_catalog())

    assert "analytics/user--analytics.json" in _all_files(tmp_path)


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ensure_keys(tmp_path / "keys", CATALOG)
    finally:
        os.umask(before)

    for path in [tmp_path / "keys", *(tmp_path / "keys").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_existing_keys_stay_and_a_lost_side_gets_the_same_key_again(tmp_path: Path) -> None:
    ensure_keys(tmp_path, CATALOG)
    before = _all_files(tmp_path)
    (tmp_path / "analytics" / "user--analytics.json").unlink()

    ensure_keys(tmp_path, CATALOG)
    ensure_keys(tmp_path, CATALOG)

    assert _all_files(tmp_path) == before


def test_a_damaged_file_is_reported_and_not_replaced(tmp_path: Path) -> None:
    ensure_keys(tmp_path, CATALOG)
    damaged = _write(tmp_path / "user", b"{", "user--analytics.json")
    (tmp_path / "analytics" / "user--analytics.json").unlink()

    with pytest.raises(KeyFileError, match="user--analytics"):
        ensure_keys(tmp_path, CATALOG)
    assert damaged.read_bytes() == b"{"


def test_concurrent_processes_make_one_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=ensure_keys, args=(tmp_path, CATALOG)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0] * 4
    files = _all_files(tmp_path)
    assert files["user/user--analytics.json"] == files["analytics/user--analytics.json"]
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


def test_all_concurrent_writers_read_the_same_keys(tmp_path: Path) -> None:
    """Threads open their own lock files like processes, and can be made to start at the same moment."""
    barrier = threading.Barrier(8)

    def make(root: Path) -> dict[str, bytes]:
        barrier.wait(30)
        ensure_keys(root, CATALOG)
        return _all_files(root)

    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            seen = list(pool.map(make, [tmp_path / str(number)] * 8))
            assert seen == [seen[0]] * 8


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "user--analytics.json"
    write_key_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_key_file(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"old")]


def test_a_good_file_gives_its_keys_in_order(tmp_path: Path) -> None:
    pair = read_key_file(_write(tmp_path, GOOD))

    assert (pair.caller, pair.callee, [key.id for key in pair.keys]) == ("user", "analytics", ["a", "b"])
    assert SECRET not in repr(pair)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "c2hvcnQ=",
        SECRET.rstrip("="),
        SECRET + "AAAA",
        SECRET.replace("A", "\n", 1),
        SECRET[:-2] + "9=",
        base64.urlsafe_b64encode(bytes(32)).decode(),
        base64.urlsafe_b64encode(b"a password".ljust(32, b"\0")).decode(),
        base64.urlsafe_b64encode(bytes(range(64))).decode(),
        None,
        7,
        [SECRET],
    ],
)
def test_a_secret_that_is_not_32_random_bytes_in_base64url_is_refused(tmp_path: Path, secret: Any) -> None:
    path = _write(tmp_path, GOOD | {"keys": [{"id": "a", "secret": secret}]})

    with pytest.raises(KeyFileError) as refused:
        read_key_file(path)
    assert not isinstance(secret, str) or len(secret) < 8 or secret not in str(refused.value)


@pytest.mark.parametrize("key_id", ["", "a" * 65, "a.b", "a/b", "a b", "a\n", "ä", None, 1])
def test_a_key_id_outside_its_alphabet_is_refused(tmp_path: Path, key_id: Any) -> None:
    with pytest.raises(KeyFileError, match="key id"):
        read_key_file(_write(tmp_path, GOOD | {"keys": [{"id": key_id, "secret": SECRET}]}))


@pytest.mark.parametrize(
    "entries", [[("a", SECRET), ("a", OTHER)], [("a", SECRET), ("b", SECRET)]], ids=["same id", "same secret"]
)
def test_a_repeated_id_or_secret_is_refused(tmp_path: Path, entries: list[tuple[str, str]]) -> None:
    keys = [{"id": key_id, "secret": secret} for key_id, secret in entries]

    with pytest.raises(KeyFileError, match="twice"):
        read_key_file(_write(tmp_path, GOOD | {"keys": keys}))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b" " * (key_files.MAX_FILE_BYTES + 1),
        {},
        {"caller": "user", "callee": "analytics"},
        GOOD | {"keys": None},
        GOOD | {"keys": []},
        GOOD | {"keys": {}},
        GOOD | {"keys": "keys"},
        GOOD | {"keys": [SECRET]},
        GOOD | {"keys": [{"id": str(n), "secret": SECRET} for n in range(17)]},
        GOOD | {"caller": "notes"},
        GOOD | {"callee": "user"},
        GOOD | {"caller": None},
        GOOD | {"caller": ["user"]},
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(KeyFileError):
        read_key_file(_write(tmp_path, document))


@pytest.mark.parametrize("name", ["User", "user_service", "", "a--b", "-a", "../user"])
def test_a_name_that_is_not_a_service_is_refused(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path, GOOD | {"caller": name}, file_name(name.replace("/", "_"), "analytics"))

    with pytest.raises(KeyFileError):
        read_key_file(path)
