"""Log files of several processes: no line is lost or mixed, and every file stays small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opskit.rotated_file import RotatedFile, rotate

LIMIT = 2_000


def lines_of(path: Path) -> list[str]:
    """Return the lines of all files, the oldest first."""
    older = sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: int(file.suffix[1:]), reverse=True)
    return [line for file in [*older, path] for line in file.read_text().splitlines()]


def test_a_full_file_is_put_aside_and_the_oldest_is_removed(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "x.log", limit=10, kept=2, check_seconds=0)
    for number in range(5):
        file.write(b"%d 2345678\n" % number)
    assert {path.name: path.read_text()[0] for path in tmp_path.iterdir()} == {
        "x.log": "4",
        "x.log.1": "3",
        "x.log.2": "2",
    }


def test_a_file_that_was_moved_or_removed_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    file = RotatedFile(path, check_seconds=0)
    file.write(b"one\n")
    path.unlink()
    file.write(b"two\n")
    assert path.read_text() == "two\n"


def test_where_no_new_file_can_be_made_lines_still_go_to_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.log"
    file = RotatedFile(path, limit=1, check_seconds=0)
    file.write(b"one\n")

    def fail(_path: Path, **_options: int) -> bool:
        raise OSError

    monkeypatch.setattr("opskit.rotated_file.rotate", fail)
    file.write(b"two\n")
    assert path.read_text() == "one\ntwo\n"


def test_a_small_or_missing_file_is_not_rotated(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    assert not rotate(path, limit=3)
    path.write_text("ab")
    assert not rotate(path, limit=3)
    path.write_text("abc")
    assert rotate(path, limit=3)
    assert not path.exists()


WRITER = """
import sys
from pathlib import Path
from opskit.rotated_file import RotatedFile
path, name, count, limit = sys.argv[1:]
file = RotatedFile(Path(path), limit=int(limit), kept=100, check_seconds=0)
for number in range(int(count)):
    file.write(f"{name} {number:04} {'x' * (number % 60)}\\n".encode())
"""


def test_processes_rotate_a_file_together_without_losing_or_mixing_lines(tmp_path: Path) -> None:
    path, names, count = tmp_path / "x.log", "abcd", 500
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name, str(count), str(LIMIT)]) for name in names]
    assert [writer.wait() for writer in writers] == [0] * len(names)

    assert len(list(tmp_path.iterdir())) > 20
    # A process may add one line to a file that another is about to put aside.
    assert max(file.stat().st_size for file in tmp_path.iterdir()) < LIMIT + 100 * len(names)
    lines = lines_of(path)
    for name in names:
        own = [line for line in lines if line.startswith(name)]
        assert own == [f"{name} {number:04} {'x' * (number % 60)}" for number in range(count)]


PRINTER = """
import os, sys
from pathlib import Path
from opskit.rotated_file import RotatedFile
file = RotatedFile(Path(sys.argv[1]), limit=10, check_seconds=0)
assert file.is_open_as(1)
assert not file.is_open_as(2)
file.write(b"a long line\\n")
file.write(b"written\\n")
os.write(1, b"printed\\n")
"""


def test_standard_output_follows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with path.open("ab") as output:
        subprocess.run([sys.executable, "-c", PRINTER, path], stdout=output, check=True)
    assert path.read_text() == "written\nprinted\n"
    assert path.with_name("x.log.1").read_text() == "a long line\n"


def test_a_line_after_one_that_was_cut_off_begins_a_new_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RotatedFile(tmp_path / "parcels.log")
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr("os.write", lambda descriptor, line: write(descriptor, line[:3]))
        file.write(b"first\n")
    file.write(b"second\n")
    file.write(b"third\n")

    assert (tmp_path / "parcels.log").read_text() == "fir\nsecond\nthird\n"
