"""Peers: built once, left out where they cannot be had; the work that they get."""

import argparse
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import bench_peers
from benchlib import UNIQUE
from local_platform.errors import ProcessFailed
from peers import obtaining, platform, pocketbase
from peers.notes_api import NotesClient
from peers.obtaining import CannotObtain, GoProgram, python_environment
from peers.side import Side, Work

PROGRAM = GoProgram(
    "tool", "example.com/tool", "v1.2.3", ["./cmd/tool"], minutes=1, added={"cmd/added.go": "package cmd\n"}
)
# Downloads a read-only module, and builds what it finds in the folder that it is given.
GO = """#!/bin/sh
echo "$1" >> "$0.calls"
case $1 in
mod) echo '{"Dir": "'"$0.module"'"}' ;;
build) cp "$3/cmd/added.go" "$6tool" ;;
esac
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what puts a script named `go` on PATH."""

    def install(script: str) -> Path:
        command = tmp_path / "bin" / "go"
        (tmp_path / "bin" / "go.module" / "cmd").mkdir(parents=True)
        command.write_text(script)
        command.chmod(0o755)
        for folder in ("go.module/cmd", "go.module"):
            (command.parent / folder).chmod(0o555)
        monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
        return command

    return install


def test_a_program_is_built_once_from_its_module_and_the_added_files(
    go: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = go(GO)
    built = PROGRAM.obtain(tmp_path / "peers")
    assert (built / "tool").read_text() == "package cmd\n"
    assert "building tool v1.2.3 from example.com/tool, once: about 1 min of CPU" in capsys.readouterr().out
    assert PROGRAM.obtain(tmp_path / "peers") == built
    assert command.with_name("go.calls").read_text().split() == ["mod", "build"]
    assert list((tmp_path / "peers").iterdir()) == [built]


def test_another_version_or_added_file_is_built_anew(go: Callable[[str], Path], tmp_path: Path) -> None:
    go(GO)
    changed = [replace(PROGRAM, version="v2"), replace(PROGRAM, added={"cmd/added.go": "package main\n"})]
    assert len({program.obtain(tmp_path / "peers") for program in [PROGRAM, *changed]}) == 3


def test_a_failed_build_says_why_and_leaves_nothing(go: Callable[[str], Path], tmp_path: Path) -> None:
    go(GO.replace("cp ", "echo 'needs go 1.99' >&2; exit 1; cp "))
    with pytest.raises(CannotObtain, match=r"failed: needs go 1\.99"):
        PROGRAM.obtain(tmp_path / "peers")
    assert list((tmp_path / "peers").iterdir()) == []


def test_without_go_a_program_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotObtain, match="no `go` on PATH"):
        PROGRAM.obtain(tmp_path)


def test_without_uv_an_environment_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obtaining, "UV", tmp_path / "uv")
    requirements = tmp_path / "requirements.txt"
    requirements.touch()
    with pytest.raises(CannotObtain, match="make install"):
        python_environment("textbook", requirements, tmp_path)


@dataclass
class _Run:
    """What `started` needs of a run."""

    options: argparse.Namespace
    folder: Path
    said: list[str] = field(default_factory=list)

    def progress(self, text: str) -> None:
        self.said.append(text)


def _starting(name: str, error: Exception | None = None) -> bench_peers.Start:
    async def work(_task: str) -> Work:
        return Work("", [], 200)

    @asynccontextmanager
    async def running(_folder: Path) -> AsyncIterator[Side]:
        if error:
            raise error
        yield Side(name, work, {})

    return running


def test_a_peer_that_cannot_be_had_is_left_out_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise CannotObtain("no `go`")

    obtained: list[str] = []
    peers = {"pocketbase": refuse, "textbook": lambda: obtained.append("textbook"), "dapr": refuse}
    monkeypatch.setattr(bench_peers, "PEERS", peers)
    run = _Run(argparse.Namespace(without=["dapr"]), tmp_path)
    assert bench_peers.obtain(run, peers) == {"pocketbase", "dapr"}
    assert run.said == ["pocketbase is left out: no `go`"]
    assert obtained == ["textbook"]


async def test_a_peer_that_does_not_start_is_left_out_with_a_word(tmp_path: Path) -> None:
    run = _Run(argparse.Namespace(), tmp_path)
    starts = {"platform": _starting("platform"), "pocketbase": _starting("pocketbase", ProcessFailed("no port"))}
    starts |= {"textbook": _starting("textbook"), "dapr": _starting("dapr")}
    async with AsyncExitStack() as stack:
        sides = await bench_peers.started(run, stack, starts, {"dapr"})
    assert [side.name for side in sides] == ["platform", "textbook"]
    assert "pocketbase is left out: no port" in run.said


async def test_a_platform_that_does_not_start_ends_the_bench(tmp_path: Path) -> None:
    run = _Run(argparse.Namespace(), tmp_path)
    starts = {"platform": _starting("platform", ProcessFailed("no port"))}
    async with AsyncExitStack() as stack:
        with pytest.raises(ProcessFailed):
            await bench_peers.started(run, stack, starts, ())


def _parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench_peers.add_options(parser)
    return parser.parse_args(words)


def test_all_work_is_measured_with_all_peers_unless_the_options_say_otherwise() -> None:
    options = _parse()
    assert list(options.work) == ["register", "login", "read", "create", "list", "call"]
    assert list(options.without) == []
    assert _parse("--work", "read", "call", "--without", "dapr").without == ["dapr"]


@pytest.mark.parametrize(
    "words", [["--work", "delete"], ["--without", "platform"]], ids=["unknown work", "without the platform"]
)
def test_unknown_work_and_the_platform_itself_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        _parse(*words)


@pytest.mark.parametrize("backend", [platform, pocketbase], ids=["platform", "pocketbase"])
async def test_each_registration_has_a_name_of_its_own(backend: object) -> None:
    work = await NotesClient(backend.api("http://127.0.0.1:1")).work("register")
    assert UNIQUE in work.requests[0]
