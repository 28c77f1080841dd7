"""What a process imports before it forks."""

import pytest

from servicekit.server import shared_imports


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_imports, "_PACKAGES", ("no_such_package",))
    shared_imports.import_packages(())
