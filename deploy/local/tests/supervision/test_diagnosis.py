"""The logs of failing servers become messages that say what to do."""

import errno
from pathlib import Path

import pytest

from local_platform.binaries import Server
from local_platform.errors import (
    DataDirectoryUnusable,
    DiskFull,
    InvalidOption,
    LibraryMissing,
    PortTaken,
    ServerMissing,
)
from local_platform.layout import Layout
from local_platform.platform.disk import check_disk
from local_platform.platform.options import Options
from local_platform.supervision.diagnosis import explain_os_error, explain_text, last_lines

LOG = Path("/data/logs/mongo-1.log")
USAGE = "shutil.disk_usage"


@pytest.mark.parametrize(
    ("text", "error", "advice"),
    [
        (
            "x: error while loading shared libraries: libcurl.so.4: cannot open shared object file",
            LibraryMissing,
            "libcurl4",
        ),
        ("x: error while loading shared libraries: /lib/libcurl.so.4: file too short", LibraryMissing, "libcurl4"),
        ("x: error while loading shared libraries: libodd.so.1: cannot open", LibraryMissing, "libodd.so.1"),
        ('FATAL: could not write to file "base/1": No space left on device', DiskFull, "free some space"),
        ('{"error":"DiskQuota: 122: Disk quota exceeded"}', DiskFull, "/data"),
        ("nginx: [emerg] bind() to 127.0.0.1:8080 failed (98: Address already in use)", PortTaken, "another port"),
    ],
)
def test_a_known_cause_names_its_remedy(text, error, advice):
    explained = explain_text("mongo-1", f"line\n{text}\nline", LOG)
    assert type(explained) is error
    assert advice in str(explained)


def test_an_unknown_cause_is_not_explained():
    assert explain_text("mongo-1", "something odd", LOG) is None


def test_errors_of_files_below_data_dir_are_told_apart():
    assert type(explain_os_error(OSError(errno.ENOSPC, "full"), Path("/data"))) is DiskFull
    assert type(explain_os_error(OSError(errno.EACCES, "denied", "/data/x"), Path("/data"))) is DataDirectoryUnusable


def test_only_the_end_of_a_long_log_is_shown(tmp_path):
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {number}" for number in range(1000)))
    shown = last_lines(log)
    assert shown.endswith("| line 999")
    assert len(shown.splitlines()) < 20
    assert last_lines(tmp_path / "none") == ""


def usage(total_mib: int, free_mib: int):
    return lambda _path: type("Usage", (), {"total": total_mib << 20, "free": free_mib << 20})


def test_a_disk_without_room_for_empty_stores_is_refused_before_anything_starts(layout, monkeypatch):
    monkeypatch.setattr(USAGE, usage(10_000, 60))
    with pytest.raises(DiskFull, match="60 MiB left"):
        check_disk(layout, mongo_nodes=1)


def test_a_nearly_full_disk_is_a_warning(layout, monkeypatch):
    monkeypatch.setattr(USAGE, usage(100_000, 4_000))
    assert "nearly full: 4000 MiB left" in check_disk(layout, mongo_nodes=3)
    monkeypatch.setattr(USAGE, usage(100_000, 6_000))
    assert check_disk(layout, mongo_nodes=3) == ""


def test_existing_data_starts_on_a_disk_with_little_room(layout, monkeypatch):
    layout.store("postgres").mkdir(parents=True)
    monkeypatch.setattr(USAGE, usage(10_000, 60))
    assert "nearly full" in check_disk(layout, mongo_nodes=1)


ABSENT = Server("MongoDB", "a-wheel", "no_such.module", "bin", "no-such-server", "ABSENT_URL")


def test_a_missing_server_is_named_with_what_to_install(monkeypatch):
    monkeypatch.delenv("ABSENT_URL", raising=False)
    assert ABSENT.external_url() is None
    with pytest.raises(ServerMissing, match=r"install MongoDB, or set ABSENT_URL to the URL of a running server"):
        ABSENT.find()


def test_a_server_without_a_wheel_is_found_on_path(monkeypatch, tmp_path):
    binary = tmp_path / "no-such-server"
    binary.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ABSENT_URL", "mongodb://elsewhere")
    assert ABSENT.find() == binary
    assert ABSENT.external_url() is None


def test_a_url_is_used_where_no_binary_is_found(monkeypatch):
    monkeypatch.setenv("ABSENT_URL", "mongodb://elsewhere")
    assert ABSENT.external_url() == "mongodb://elsewhere"


def test_a_data_directory_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryUnusable, match="cannot be written"):
        Layout.prepare(tmp_path / "file")


@pytest.mark.parametrize("wrong", [{"gateway_port": 65536}, {"replicas": 0}, {"mongo_nodes": 8}, {"mongo_nodes": 0}])
def test_options_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(InvalidOption, match="use "):
        Options(tmp_path, **wrong).check()
