"""A file is replaced whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from opskit import atomic_file
from opskit.atomic_file import write_atomically


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", ["größer\n", "größer\n".encode()])
def test_text_and_bytes_replace_what_was_there(tmp_path: Path, content: str | bytes):
    path = tmp_path / "state.json"
    path.write_text("old")
    write_atomically(path, content)
    assert path.read_bytes() == "größer\n".encode()
    assert names_in(tmp_path) == ["state.json"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path: Path, umask: int):
    previous = os.umask(umask)
    try:
        write_atomically(tmp_path / "secret", "text")
        write_atomically(tmp_path / "public", "text", mode=0o644)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644


@pytest.mark.parametrize("failing", ["fsync", "fchmod"])
def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
):
    def fail(*_arguments: object) -> None:
        raise OSError("disk full")

    path = tmp_path / "state.json"
    path.write_text("old")
    monkeypatch.setattr(atomic_file.os, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["state.json"]


def test_the_file_is_on_the_disk_before_it_takes_its_name_and_the_name_is_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "state.json"
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, path.exists()))

    monkeypatch.setattr(atomic_file.os, "fsync", fsync)
    write_atomically(path, "new")
    assert synced == [("file", False), ("directory", True)]


@pytest.mark.parametrize(("keep_owner", "expected"), [(True, [(1234, 1235)]), (False, [])])
def test_root_gives_the_new_file_to_the_owner_of_the_old_one_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_owner: bool, expected: list[tuple[int, int]]
):
    given: list[tuple[int, int]] = []
    path = tmp_path / "key"
    path.write_text("old")
    status = os.stat_result((0o100600, 1, 1, 1, 1234, 1235, 3, 0, 0, 0))
    monkeypatch.setattr(atomic_file.os, "geteuid", lambda: 0)
    monkeypatch.setattr(atomic_file.os, "fchown", lambda _file, user, group: given.append((user, group)))
    monkeypatch.setattr(Path, "stat", lambda _self: status)
    write_atomically(path, "new", keep_owner=keep_owner)
    assert given == expected


def test_a_new_file_has_no_owner_to_keep(tmp_path: Path):
    write_atomically(tmp_path / "key", "new", keep_owner=True)
    assert (tmp_path / "key").stat().st_uid == os.geteuid()


def test_a_file_that_need_not_survive_a_power_failure_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(atomic_file.os, "fsync", lambda _descriptor: pytest.fail("it waited"))
    write_atomically(tmp_path / "state.json", "new", durable=False)
    assert (tmp_path / "state.json").read_text() == "new"
