"""What a process imports before it forks."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from servicekit.server import shared_imports

CODE = """
from prometheus_client import Counter
from tiny_service import words
USES = Counter("tiny_uses", "Uses.")
WORD = words.WORD
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a service with a metric and two modules, which can be imported."""
    folder = tmp_path / "tiny_service"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "app.py").write_text(CODE)
    (folder / "words.py").write_text("WORD = 'old'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    shared_imports.forget_service()
    shared_imports._own_modules.clear()


def _import_app() -> str:
    import tiny_service.app  # type: ignore[import-not-found]

    word: str = tiny_service.app.WORD
    return word


def test_a_service_is_imported_once_until_it_is_forgotten(service: Path) -> None:
    shared_imports.import_service("tiny_service.app")
    (service / "words.py").write_text("WORD = 'new'")
    assert _import_app() == "old"
    shared_imports.forget_service()
    assert _import_app() == "new"
    # The metric of the code before is gone, or the new one could not have been made.
    assert REGISTRY.get_sample_value("tiny_uses_total") == 0


def test_a_service_that_cannot_be_imported_fails_in_the_worker_only(service: Path) -> None:
    (service / "words.py").write_text("syntax error")
    shared_imports.import_service("tiny_service.app")
    shared_imports.forget_service()
    with pytest.raises(SyntaxError):
        _import_app()


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_imports, "_PACKAGES", ("no_such_package",))
    shared_imports.import_packages(())


def test_only_the_code_of_the_service_and_the_kit_is_forgotten(service: Path) -> None:
    (service / "words.py").write_text("import this; WORD = ''")
    sys.modules.pop("this", None)
    shared_imports.import_service("tiny_service.app")
    shared_imports.forget_service()
    assert "this" in sys.modules
    assert "tiny_service" not in sys.modules
