"""`make adopt` gives the platform another name; `make newcomer` does so with the whole repository."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from local_platform.layout import REPOSITORY

ADOPT = REPOSITORY / "deploy" / "adopt.py"
NEW = "renamed"


@pytest.fixture(scope="module")
def adopt() -> dict[str, Any]:
    return runpy.run_path(str(ADOPT))


@pytest.fixture
def old(adopt: dict[str, Any]) -> str:
    name: str = adopt["OLD"]
    return name


def test_the_name_changes_in_lower_case_and_at_the_beginning_of_a_sentence(adopt: dict[str, Any], old: str) -> None:
    text = f"urn:{old}:problem:x, {old}-user, {old}-dev/notes, {old.capitalize()} API"
    assert adopt["renamed"](text, NEW) == "urn:renamed:problem:x, renamed-user, renamed-dev/notes, Renamed API"


@pytest.mark.parametrize("name", ["ac", NEW, "a-2", "a" * 20])
def test_a_dns_label_is_a_name(adopt: dict[str, Any], name: str) -> None:
    adopt["check_name"](name)


@pytest.mark.parametrize(
    "name", ["", "a", "Acme", "acme_x", "-acme", "acme-", "a--b", "a" * 21, "2acme", "acme\n", "é"]
)
def test_anything_else_is_refused(adopt: dict[str, Any], name: str) -> None:
    with pytest.raises(adopt["CannotAdopt"], match="cannot be a name"):
        adopt["check_name"](name)


def test_the_name_of_a_service_or_the_present_one_is_refused(adopt: dict[str, Any], old: str) -> None:
    for name in ("notes", old):
        with pytest.raises(adopt["CannotAdopt"], match="is taken"):
            adopt["check_name"](name, ["user", "notes"])


def test_a_name_of_python_gets_no_hyphen(adopt: dict[str, Any], old: str) -> None:
    assert (
        adopt["renamed"](f"from {old}_client import x  # {old}-client", "a-b")
        == "from a_b_client import x  # a-b-client"
    )


def test_folders_and_files_are_renamed_and_no_empty_folder_stays(
    adopt: dict[str, Any], old: str, tmp_path: Path
) -> None:
    (tmp_path / "clients" / f"{old}_client" / "api").mkdir(parents=True)
    (tmp_path / "clients" / f"{old}_client" / "api" / "a.py").write_text("text")

    assert adopt["rename_files"](tmp_path, "a-b") == [f"clients/{old}_client/api/a.py"]
    assert (tmp_path / "clients" / "a_b_client" / "api" / "a.py").read_text() == "text"
    assert not (tmp_path / "clients" / f"{old}_client").exists()


def test_licence_recorded_messages_and_binary_files_stay(adopt: dict[str, Any], old: str, tmp_path: Path) -> None:
    vectors = "shared/tests/sealing/vectors/one.json"
    for file in ("LICENSE", vectors, "a.py", ".venv/b.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(old)
    (tmp_path / "picture").write_bytes(b"\xff" + old.encode())

    assert adopt["rename_files"](tmp_path, NEW) == ["a.py"]
    assert (tmp_path / "a.py").read_text() == NEW
    assert (tmp_path / "LICENSE").read_text() == (tmp_path / vectors).read_text() == old
    assert (tmp_path / "picture").read_bytes() == b"\xff" + old.encode()


def test_user_unknown_services_and_those_for_operators_cannot_be_left_out(
    adopt: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt["main"]([NEW, "--without", "user billing console"]) == 1
    assert "error: user, billing, console cannot be left out" in capsys.readouterr().err
