"""`make keys` writes what is missing and nothing else; the rotations want a running platform."""

import pytest

from local_platform.cli import keys, rotate_jwt_key, rotate_keys
from opskit.catalog import read_catalog
from servicekit.sealing.key_files import file_name, read_key_file


def _content(root):
    return {path: path.read_bytes() for path in root.rglob("*.json")}


@pytest.mark.parametrize("option", ["--keys-dir", "--data-dir"])
def test_every_pair_of_the_service_list_gets_a_key_once(tmp_path, capsys, option):
    root = tmp_path if option == "--keys-dir" else tmp_path / "secrets" / "keys"
    assert keys.main([option, str(tmp_path)]) == 0
    written = _content(root)
    calls = [(entry.name, callee) for entry in read_catalog().values() for callee in entry.calls]
    assert {path.relative_to(root).as_posix() for path in written} == {
        f"{side}/{file_name(*call)}" for call in calls for side in call
    }
    assert set(capsys.readouterr().out.splitlines()) == set(map(str, written))

    assert keys.main([option, str(tmp_path)]) == 0
    assert _content(root) == written
    assert "no key is missing" in capsys.readouterr().out


def test_a_lost_file_is_written_again_with_the_same_key(tmp_path, capsys):
    keys.main(["--keys-dir", str(tmp_path)])
    lost = next(iter(_content(tmp_path)))
    before = [key.id for key in read_key_file(lost).keys]
    lost.unlink()
    capsys.readouterr()

    assert keys.main(["--keys-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(lost)]
    assert [key.id for key in read_key_file(lost).keys] == before


def test_a_damaged_file_is_named_and_stays(tmp_path, capsys):
    keys.main(["--keys-dir", str(tmp_path)])
    damaged = next(iter(_content(tmp_path)))
    damaged.write_text("{")
    assert keys.main(["--keys-dir", str(tmp_path)]) == 1
    assert str(damaged) in capsys.readouterr().err
    assert damaged.read_text() == "{"


@pytest.mark.parametrize("command", [rotate_keys.main, rotate_jwt_key.main])
def test_a_rotation_without_a_platform_says_how_to_start_one(tmp_path, capsys, command):
    assert command(["--data-dir", str(tmp_path)]) == 1
    assert f"make run DATA_DIR={tmp_path}" in capsys.readouterr().err
