"""Metrics of several processes: no fault of the disk or of a file reaches a request or `/metrics`."""

import asyncio
import errno
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from servicekit.observability import logs, metric_files
from servicekit.observability.metric_files import MetricFile, MetricFilesCollector

# A process id that no process has: above the kernel's limit.
GONE = 4_194_305
LIVING = os.getpid()


def _key(name: str, **labels: str) -> str:
    return mmap_key(f"{name}_total", f"{name}_total", list(labels), list(labels.values()), "help")


def _stored(path: Path) -> dict[str, float]:
    return {key: value for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path))}


def _exposed(directory: Path) -> str:
    registry = CollectorRegistry()
    MetricFilesCollector(registry, str(directory))
    return generate_latest(registry).decode()


def _write(path: Path, name: str, value: float) -> None:
    file = MetricFile(str(path))
    file.write_value(_key(name), value, 0.0)
    file.close()


def test_values_are_stored_in_the_librarys_format(tmp_path: Path) -> None:
    path = tmp_path / f"counter_{LIVING}.db"
    file = MetricFile(str(path))
    keys = [_key("parcels", shelf=f"{number}é" * 100) for number in range(500)]
    for number, key in enumerate(keys):
        assert file.read_value(key) == (0.0, 0.0)
        file.write_value(key, number, 1.0)
    file.write_value(keys[7], 70.5, 2.0)

    assert file.read_value(keys[7]) == (70.5, 2.0)
    assert _stored(path) == {**{key: number for number, key in enumerate(keys)}, keys[7]: 70.5}
    original = MmapedDict(str(path))
    assert original.read_value(keys[8]) == (8.0, 1.0)
    original.close()
    file.close()


async def test_an_event_loop_copies_many_changes_together_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"counter_{LIVING}.db"
    file = MetricFile(str(path))
    keys = [_key("parcels", shelf=str(number)) for number in range(3)]
    for key in keys:
        file.write_value(key, 0, 0.0)
    file.flush()
    copies = []
    pwrite = os.pwrite

    def counted(*arguments: Any) -> int:
        copies.append(arguments)
        return pwrite(*arguments)

    monkeypatch.setattr(os, "pwrite", counted)
    for number in range(1, 100):
        for key in keys:
            file.write_value(key, number, 0.0)
    async with asyncio.timeout(60):
        while _stored(path) != dict.fromkeys(keys, 99):
            await asyncio.sleep(0.01)
    assert len(copies) < 10

    file.write_value(keys[0], 100, 0.0)
    metric_files.flush()
    assert _stored(path)[keys[0]] == 100
    file.close()


def test_a_process_with_the_id_of_a_former_one_continues_its_counters(tmp_path: Path) -> None:
    path = tmp_path / f"counter_{LIVING}.db"
    _write(path, "parcels", 3)

    again = MetricFile(str(path))
    assert again.read_value(_key("parcels")) == (3.0, 0.0)
    again.close()


def test_while_the_disk_is_full_values_stay_in_memory_and_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.observability.metric_files.PAUSE_SECONDS", 0.0)
    path = tmp_path / f"counter_{LIVING}.db"
    file = MetricFile(str(path))
    file.write_value(_key("before"), 1, 0.0)

    def full(_descriptor: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        file.write_value(_key("before"), 2, 0.0)
        file.write_value(_key("during"), 3, 0.0)
        assert file.read_value(_key("during")) == (3.0, 0.0)
    assert _stored(path) == {_key("before"): 1}

    file.write_value(_key("before"), 4, 0.0)
    assert _stored(path) == {_key("before"): 4, _key("during"): 3}
    file.close()


def test_a_directory_that_is_missing_fails_nothing(tmp_path: Path) -> None:
    file = MetricFile(str(tmp_path / "missing" / "counter_1.db"))
    file.write_value(_key("parcels"), 1, 0.0)
    file.close()
    assert _exposed(tmp_path / "missing") == ""


WRITER = """
from servicekit.observability import metric_files
metric_files.install()
from prometheus_client import Counter
parcels = Counter("parcels", "help", ["shelf"])
parcels.labels("1").inc()
input()
parcels.labels("1").inc()
parcels.labels("2").inc()
"""


def test_a_file_that_is_cut_off_does_not_end_its_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", WRITER], env=environment, stdin=subprocess.PIPE) as writer:
        path = tmp_path / f"counter_{writer.pid}.db"
        while not path.exists() or not _has_values(path):
            assert writer.poll() is None
        os.truncate(path, 0)
        writer.communicate(b"\n")
    assert writer.returncode == 0


def _has_values(path: Path) -> bool:
    try:
        return bool(_stored(path))
    except struct.error:
        return False


def _flip(content: bytes) -> bytes:
    return content[:12] + bytes(byte ^ 0xFF for byte in content[12:40]) + content[40:]


def _with_used(number: int) -> Callable[[bytes], bytes]:
    return lambda content: struct.pack("i", number) + content[4:]


def _with_key(key: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(b'"parcels_total", "parcels_total"', key.encode().ljust(32))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _content: b"",
    "one byte": lambda content: content[:1],
    "cut off in a key": lambda content: content[:30],
    "cut off in a value": lambda content: content[: struct.unpack_from("i", content)[0] - 5],
    "zeros": lambda content: bytes(len(content)),
    "ones": lambda content: b"\xff" * len(content),
    "garbage": lambda _content: bytes(range(256)) * 16,
    "text": lambda _content: b"not a metrics file\n" * 10,
    "flipped bits": _flip,
    "a length beyond its end": _with_used(1 << 30),
    "a negative length": _with_used(-5),
    "a negative length of a key": lambda content: content[:8] + struct.pack("i", -28) + content[12:],
    "a key that is a number": _with_key("7"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("kind", ["counter", "histogram", "gauge_livesum"])
@pytest.mark.parametrize("pid", [LIVING, GONE], ids=["living", "gone"])
def test_a_damaged_file_is_left_out_and_removed_when_its_process_is_gone(
    tmp_path: Path, damage: Callable[[bytes], bytes], kind: str, pid: int
) -> None:
    _write(tmp_path / "counter_1.db", "letters", 2)
    path = tmp_path / f"{kind}_{pid}.db"
    _write(path, "parcels", 3)
    path.write_bytes(damage(path.read_bytes()))

    for _ in range(2):
        assert "letters_total 2.0" in _exposed(tmp_path)
    # A file of zeros is one without values, and nothing is wrong with it.
    harmless = damage in (DAMAGES["zeros"], DAMAGES["a negative length"], DAMAGES["ones"])
    assert path.exists() is (pid == LIVING or harmless)


def test_a_damaged_file_is_logged_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # Whatever another test has set up: the lines go to this test's output.
    logs.configure("tests")
    path = tmp_path / f"counter_{LIVING}.db"
    path.write_bytes(b"damaged")
    for _ in range(3):
        _exposed(tmp_path)
    output = capfd.readouterr()
    assert (output.out + output.err).count(path.name) == 1


@pytest.mark.parametrize("name", ["counter_1.db", "gauge_livesum_1.db", "stray.db", "gauge.db"])
def test_what_is_no_metrics_file_is_left_out(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "counter_2.db", "letters", 2)
    (tmp_path / name).mkdir()
    assert "letters_total 2.0" in _exposed(tmp_path)
