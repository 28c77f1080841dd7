"""A service is removed as a whole or not at all; `make newcomer` tests what is left."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from local_platform.layout import REPOSITORY
from local_platform.remove_service.removal import (
    LISTS,
    CannotRemove,
    Removal,
    check_committed,
    example_calls,
    plan_removal,
)
from opskit.catalog import read_catalog

pytestmark = pytest.mark.needs("notes")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files that list all services, and the services' domain events."""
    events = [f"{name}/{name}_service/domain_events.py" for name in read_catalog()]
    for file in (*LISTS, *(event for event in events if (REPOSITORY / event).exists())):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tmp_path / file)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_notes.py").write_text('pytestmark = pytest.mark.needs("notes")\n')
    return tmp_path


def contents(root: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".ruff_cache" not in path.parts}


def test_a_plan_writes_nothing_until_it_is_carried_out(repository: Path) -> None:
    before = contents(repository)
    removal = plan_removal(repository, "notes")
    assert contents(repository) == before

    removal.carry_out()
    assert not (repository / "notes").exists()
    assert not (repository / "tests" / "test_notes.py").exists()
    assert "notes" not in read_catalog(repository / "deploy" / "services.toml")
    assert "notes" not in (repository / "user/user_service/domain_events.py").read_text()


def test_a_failure_in_the_middle_changes_nothing(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(repository)

    def fail(_removal: Removal) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Removal, "_tidy", fail)
    with pytest.raises(KeyboardInterrupt):
        plan_removal(repository, "notes").carry_out()
    assert contents(repository) == before


def test_accounts_stay(repository: Path) -> None:
    with pytest.raises(CannotRemove, match="user cannot be removed: it owns the accounts"):
        plan_removal(repository, "user")


def test_a_service_for_operators_is_switched_off_instead(repository: Path) -> None:
    with pytest.raises(CannotRemove, match="console cannot be removed, only switched off: CONSOLE=off"):
        plan_removal(repository, "console")


def test_an_unknown_or_removed_service_is_refused_with_the_names_that_there_are(repository: Path) -> None:
    with pytest.raises(CannotRemove, match="no service 'billing', only user, "):
        plan_removal(repository, "billing")
    plan_removal(repository, "notes").carry_out()
    with pytest.raises(CannotRemove, match="no service 'notes'"):
        plan_removal(repository, "notes")


def test_what_the_example_frontend_calls_on_a_service_is_named(tmp_path: Path) -> None:
    source = tmp_path / "examples/web/src"
    source.mkdir(parents=True)
    (source / "api.ts").write_text("api.notesListNotes({}); api.assetsListAssets(); notesOf(page)\n// notesPage")

    assert example_calls(tmp_path, read_catalog()["notes"]) == ["notesListNotes", "notesOf"]
    assert example_calls(tmp_path / "without", read_catalog()["notes"]) == []


def test_only_what_git_could_restore_is_changed(repository: Path) -> None:
    with pytest.raises(CannotRemove, match="no git repository"):
        check_committed(repository)
    subprocess.run(["git", "init", "--quiet"], cwd=repository, check=True)
    with pytest.raises(CannotRemove, match="uncommitted changes"):
        check_committed(repository)
