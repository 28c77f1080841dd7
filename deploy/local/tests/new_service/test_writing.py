"""A service is written as a whole or not at all; `tests/own_platforms/test_new_service.py` runs it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from local_platform.cli.app import main
from local_platform.layout import REPOSITORY
from local_platform.new_service import command, writing
from local_platform.new_service.naming import NameRefused
from local_platform.new_service.writing import LISTS, rendered_files, write_service


def with_lists(folder: Path) -> Path:
    """Copy the files that list all services, and nothing else, into a folder; return it."""
    for name in LISTS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A directory with only the files that list all services."""
    return with_lists(tmp_path)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one more service, for tests that change nothing."""
    folder = with_lists(tmp_path_factory.mktemp("extended"))
    write_service(folder, "billing", "mongo")
    return folder


def contents(root: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".ruff_cache" not in path.parts}


@pytest.mark.parametrize("store", ["postgres", "mongo"])
def test_docs_explain_every_file(store: writing.Store) -> None:
    page = (REPOSITORY / "docs" / "add-a-service.md").read_text(encoding="utf-8")
    for path in rendered_files("billing", store):
        assert f"`{str(path).replace('billing', 'NAME')}`" in page


def test_a_second_service_of_the_same_name_is_refused_and_changes_nothing(extended: Path) -> None:
    before = contents(extended)

    with pytest.raises(NameRefused, match="is taken"):
        write_service(extended, "billing", "postgres")

    assert contents(extended) == before


@pytest.mark.needs("assets")
def test_the_readme_gets_a_row_below_those_of_the_other_services(extended: Path) -> None:
    before = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    after = (extended / "README.md").read_text(encoding="utf-8").splitlines()
    row = "| [`billing`](billing/README.md) | MongoDB | entries | `/api/v1/billing` |"
    assert [line for line in after if line not in before] == [row]
    assert after[after.index(row) - 1].startswith("| [`assets`]")


def test_a_failure_in_the_middle_leaves_nothing_behind(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(repository)

    def fail(_repository: Path, _name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_format", fail)
    with pytest.raises(KeyboardInterrupt):
        write_service(repository, "billing", "postgres")

    assert contents(repository) == before
    assert not (repository / "billing").exists()


def test_the_command_says_why_it_refuses_a_name_and_what_comes_next(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "REPOSITORY", repository)

    assert main(["new-service", "no-name", "mongo"]) == 1
    assert "cannot be a name" in capsys.readouterr().err
    assert main(["new-service", "billing", "mongo"]) == 0
    assert "make run" in capsys.readouterr().out
