"""The job that makes service keys: once for each pair, and a message when it cannot."""

from pathlib import Path

import pytest

from opskit.catalog import DEFAULT_PATH, read_catalog
from servicekit.ops.make_keys import main
from servicekit.sealing.key_files import file_name


def _content(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*.json")}


@pytest.mark.needs("analytics")
def test_every_pair_of_the_given_list_gets_a_key_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--keys-dir", str(tmp_path), "--services", str(DEFAULT_PATH)]
    assert main(arguments) == 0
    written = _content(tmp_path)
    calls = [
        (entry.name, callee) for entry in read_catalog(DEFAULT_PATH, operators=True).values() for callee in entry.calls
    ]
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {
        f"{side}/{file_name(*call)}" for call in calls for side in call
    }
    assert set(capsys.readouterr().out.splitlines()) == set(map(str, written))

    assert main(arguments) == 0
    assert _content(tmp_path) == written
    assert capsys.readouterr().out == f"no key is missing in {tmp_path}\n"


def test_an_unwritable_folder_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys").write_text("a file")

    assert main(["--keys-dir", str(tmp_path / "keys"), "--services", str(DEFAULT_PATH)]) == 1
    assert str(tmp_path / "keys") in capsys.readouterr().err


def test_a_missing_list_of_services_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "services.toml"

    assert main(["--keys-dir", str(tmp_path), "--services", str(missing)]) == 1
    assert str(missing) in capsys.readouterr().err
    assert _content(tmp_path) == {}
