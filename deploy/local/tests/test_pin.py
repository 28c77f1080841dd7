"""Pinning of images and actions, with a docker and a git that resolve everything, or nothing."""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from local_platform.layout import REPOSITORY

DIGEST, COMMIT = "sha256:" + "a" * 64, "b" * 40
TAGGED = re.compile(r"^ *(?:FROM|image:|- uses:|# syntax=)(?!.*(?:baseplate|sha256:|@[0-9a-f]{40} # v)).*", re.M)


@pytest.fixture
def pin() -> ModuleType:
    specification = importlib.util.spec_from_file_location("pin", REPOSITORY / "deploy/pin.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path, pin: ModuleType) -> Path:
    """The files that name images and actions."""
    for glob in (*pin.DOCKERFILES, *pin.COMPOSE_FILES, *pin.WORKFLOWS):
        for path in REPOSITORY.glob(glob):
            target = tmp_path / path.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return tmp_path


def tools(directory: Path, monkeypatch: pytest.MonkeyPatch, *, status: int = 0, digest: str = DIGEST) -> None:
    directory.mkdir(exist_ok=True)
    for name, output in (("docker", digest), ("git", f"{'c' * 40} refs/tags/v6\\n{COMMIT} refs/tags/v6^{{}}")):
        (directory / name).write_text(f"#!/bin/sh\nprintf '{output}'\necho no such host >&2\nexit {status}\n")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def contents(root: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in root.rglob("*") if path.is_file()}


def test_every_image_and_action_is_pinned_and_keeps_its_tag(copy, tmp_path_factory, monkeypatch, pin):
    tools(tmp_path_factory.mktemp("tools"), monkeypatch)
    before = contents(copy)
    assert pin.main(copy) == 0
    after = contents(copy)
    assert after.keys() == before.keys()
    assert not [line for text in after.values() for line in TAGGED.findall(text)]
    assert f"FROM python:3.13-slim@{DIGEST} AS build" in after[copy / "deploy/service.Dockerfile"]
    assert f"image: postgres:18@{DIGEST}" in after[copy / "docker-compose.prod.yml"]
    assert f"uses: actions/checkout@{COMMIT} # v6.0.1" in after[copy / ".github/workflows/ci.yml"]
    assert "image: baseplate/user:current" in after[copy / "docker-compose.prod.yml"]


def test_pinning_again_takes_over_the_new_digests(copy, tmp_path_factory, monkeypatch, pin):
    directory = tmp_path_factory.mktemp("tools")
    tools(directory, monkeypatch)
    pin.main(copy)
    pinned = contents(copy)
    newer = DIGEST.replace("a" * 64, "d" * 64)
    tools(directory, monkeypatch, digest=newer)
    assert pin.main(copy) == 0
    assert contents(copy) == {path: text.replace(DIGEST, newer) for path, text in pinned.items()}


@pytest.mark.parametrize("failure", ["error", "nonsense", "no tools"])
def test_nothing_is_changed_when_a_tag_cannot_be_resolved(copy, tmp_path_factory, monkeypatch, capsys, pin, failure):
    directory = tmp_path_factory.mktemp("tools")
    if failure == "no tools":
        monkeypatch.setenv("PATH", str(directory))
    else:
        tools(
            directory, monkeypatch, status=int(failure == "error"), digest="latest" if failure == "nonsense" else DIGEST
        )
    before = contents(copy)
    assert pin.main(copy) == 1
    assert contents(copy) == before
    assert "error: NOT PINNED: " in capsys.readouterr().err
