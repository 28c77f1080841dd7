"""The audit of what the lock installs: licences and advisories."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from local_platform.layout import REPOSITORY


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for a lock of two packages."""
    specification = importlib.util.spec_from_file_location("audit", REPOSITORY / "deploy/audit.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    (tmp_path / "requirements.lock").write_text(
        "pytest==9.2.0 \\\n    --hash=sha256:00\ncolorama==0.4.6 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
    )
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "UV", tmp_path / "uv")
    return module


def write_uv(audit: ModuleType, status: int) -> None:
    audit.UV.write_text(f'#!/bin/sh\nshift 4; cat "$1/pyproject.toml"\nexit {status}\n')
    audit.UV.chmod(0o755)


@pytest.mark.parametrize(("of_uv", "status"), [(0, 0), (1, 1), (2, 3), (101, 3)])
def test_what_was_not_audited_does_not_look_sound(audit, capfd, of_uv, status):
    write_uv(audit, of_uv)
    assert audit.main([]) == status
    output = capfd.readouterr()
    assert ("NOT AUDITED" in output.err) == (status == 3)
    assert "'''pytest==9.2.0'''" in output.out
    assert "'''colorama==0.4.6 ; sys_platform == 'win32''''" in output.out


@pytest.mark.parametrize(
    ("expression", "accepted"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("unknown", False),
        ("GPL-3.0 OR BSD-2-Clause", True),
        ("MIT AND GPL-3.0", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("MIT AND (GPL-3.0 OR AGPL-3.0)", False),
        ("(MIT)", True),
    ],
)
def test_a_licence_is_accepted_if_each_of_its_parts_is(audit, expression, accepted):
    assert audit.accepted(expression) == accepted


def test_a_licence_that_is_not_accepted_fails_the_audit(audit, monkeypatch, capfd):
    write_uv(audit, 0)
    monkeypatch.setattr(audit, "licences", lambda _names: [("pytest", "GPL-3.0-only")])
    assert audit.main([]) == 1
    assert "pytest: GPL-3.0-only" in capfd.readouterr().out


def test_every_package_of_the_lock_is_found(audit, monkeypatch):
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert len(audit._PIN.findall(lock)) == sum("==" in line and not line.startswith(" ") for line in lock.splitlines())
