"""The Makefile: values reach the tools as they were typed, and the environment is built for this clone.

The clone here holds what `make` reads. Its uv is a script that makes a virtual environment without packages.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local_platform.layout import REPOSITORY
from opskit.catalog import read_catalog

pytestmark = pytest.mark.servers

# The interpreter that this environment was made from: it has pip.
PYTHON = Path(sys.base_prefix, "bin", "python3")
MEMBERS = ["shared", *read_catalog(operators=True), "gateway", "deploy/local", "deploy/release"]
UV = f"""#!/bin/bash
set -eu
case "$*" in
    venv*) echo build >> built; {PYTHON} -m venv --without-pip --clear .venv ;;
    "pip sync"*) ;;
    "pip install"*) echo "$PWD/deploy/local" > "$(echo .venv/lib/python*/site-packages)/local.pth" ;;
esac
"""
# Stands for the launcher: shows its arguments and its place, and writes its environment to a file.
LAUNCHER = """
import json, os, sys
print(*map(ascii, sys.argv[1:]), os.path.dirname(os.path.realpath(__file__)))
json.dump(dict(os.environ), open("shown.json", "w"))
"""
Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "clone"
    for member in MEMBERS:
        (root / member).mkdir(parents=True)
        (root / member / "pyproject.toml").touch()
    for name in ("Makefile", "requirements.lock", "deploy/services.toml"):
        shutil.copy(REPOSITORY / name, root / name)
    for package, code in (("deploy/local/local_platform", LAUNCHER), ("deploy/release/release_tool", LAUNCHER)):
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
        (root / package / "__main__.py").write_text(code)
    (root / ".tools/bin").mkdir(parents=True)
    (root / ".tools/bin/uv").write_text(UV)
    (root / ".tools/bin/uv").chmod(0o755)
    return root


@pytest.fixture
def make() -> Make:
    def run(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", f"PYTHON={PYTHON}", *words],
            cwd=root,
            env={"PATH": os.environ["PATH"], "HOME": str(root.parent), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


HOSTILE = [
    "`touch pwned`",
    "$(touch pwned)",
    "$(shell touch pwned)",
    "${shell touch pwned}",
    "$$(touch pwned)",
    '"; touch pwned; "',
    "'; touch pwned; '",
    "a\ntouch pwned",
    "a # b \\",
    "$HOME $$ é",
]


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        (["migration", "SERVICE=user"], "MESSAGE"),
        (["migration", "MESSAGE=x"], "SERVICE"),
        (["admin"], "USERNAME"),
        (["admin", "PROD=1"], "USERNAME"),
        (["new-service", "STORE=mongo"], "NAME"),
        (["new-service", "NAME=billing"], "STORE"),
        (["rotate-keys"], "PAIR"),
        (["keys"], "KEYS_DIR"),
        (["release", "SERVICE=notes"], "TAG"),
        (["release", "SERVICE=notes"], "STEPS"),
        (["release", "SERVICE=notes"], "STEP_SECONDS"),
        (["release"], "SERVICE"),
        (["rollback"], "SERVICE"),
        (["call", "FROM=analytics", "TO=user"], "PATH"),
        (["call", "FROM=analytics", "TO=user", "PATH=/x"], "BODY"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_value_reaches_the_tool_as_it_was_typed(clone: Path, make: Make, words: list[str], variable: str) -> None:
    value = " ".join(HOSTILE)
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").write_text(
        f'#!/bin/sh\ntest "$1" = -Ic || PYTHONPATH=deploy/local {sys.executable} "$@"'
    )
    (clone / ".venv/bin/python").chmod(0o755)
    (clone / ".venv/.complete").touch()
    done = make(clone, *words, f"{variable}={value}")
    assert done.returncode == 0, done.stderr
    assert ascii(value)[1:-1] in done.stdout
    assert not (clone / "pwned").exists()


def test_the_path_of_a_call_leaves_the_search_path_of_commands_alone(clone: Path, make: Make) -> None:
    done = make(clone, "call", "FROM=analytics", "TO=user", "PATH=/api/v1/users")
    assert "'analytics' 'user' '/api/v1/users'" in done.stdout, done.stderr
    assert json.loads((clone / "shown.json").read_text())["PATH"] == os.environ["PATH"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    "target",
    ["logs", "restart", "test", "bench", "load", "load-tools", "report", "evidence", "run", "demo", "up", "install"],
)
def test_a_value_is_never_executed(clone: Path, make: Make, target: str) -> None:
    value = " ".join(HOSTILE[:7])
    names = ("SERVICE", "ONLY", "DATA_DIR", "GATEWAY_PORT", "USER_RATE", "JOBS", "PROFILES", "CASES", "URL", "UNKNOWN")
    make(clone, target, *(f"{name}={value}" for name in names))
    assert not (clone / "pwned").exists()


@pytest.mark.parametrize("name", ["plain", "with space", "$HOME", "quote'\"", "hash#", "é`x`", "percent%20"])
def test_an_environment_is_built_once_in_any_path(tmp_path: Path, clone: Path, make: Make, name: str) -> None:
    root = clone.rename(tmp_path / name)
    for _ in range(2):
        done = make(root, "demo")
        assert done.stdout.endswith(f"'demo' {root}/deploy/local/local_platform\n"), done.stderr
    assert (root / "built").read_text() == "build\n"


def test_a_moved_clone_builds_its_environment_anew(tmp_path: Path, clone: Path, make: Make) -> None:
    make(clone, "demo")
    moved = clone.rename(tmp_path / "moved")
    assert make(moved, "demo").stdout.endswith(f"'demo' {moved}/deploy/local/local_platform\n")


@pytest.mark.parametrize("target", ["demo", "install"])
def test_a_copied_clone_runs_its_own_code(tmp_path: Path, clone: Path, make: Make, target: str) -> None:
    make(clone, "install")
    copy = tmp_path / "copy"
    # As `cp -a` does: with the times of the original.
    shutil.copytree(clone, copy, symlinks=True)
    assert "the environment was built elsewhere" in make(copy, target).stdout
    assert make(copy, "demo").stdout.endswith(f"'demo' {copy}/deploy/local/local_platform\n")


def _remove_interpreter(environment: Path) -> None:
    for path in (environment / "bin").glob("python*"):
        path.unlink()
        path.symlink_to("/nowhere/python3")


def _upgrade_interpreter(environment: Path) -> None:
    library = next((environment / "lib").iterdir())
    library.rename(library.with_name("python3.0"))


@pytest.mark.parametrize("change", [_remove_interpreter, _upgrade_interpreter], ids=["gone", "another version"])
def test_an_environment_whose_interpreter_is_gone_is_built_anew(
    clone: Path, make: Make, change: Callable[[Path], None]
) -> None:
    make(clone, "install")
    change(clone / ".venv")
    done = make(clone, "demo")
    assert done.stdout.endswith(f"'demo' {clone}/deploy/local/local_platform\n"), done.stderr


STRAY = {
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_USER": "1",
    "PIP_PREFIX": "/nowhere",
    "PIP_TARGET": "/nowhere",
    "PIP_ROOT": "/nowhere",
    "PIP_REQUIRE_HASHES": "1",
    "PIP_DRY_RUN": "1",
    "PIP_NO_BINARY": ":all:",
    "PIP_CONSTRAINT": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "PYTHONNOUSERSITE": "1",
    "UV_SYSTEM_PYTHON": "1",
    "UV_PYTHON": "/nowhere",
    "UV_TARGET": "/nowhere",
    "UV_PROJECT_ENVIRONMENT": "/nowhere",
    "VIRTUAL_ENV": "/nowhere",
    "CONDA_PREFIX": "/nowhere",
    "BASH_ENV": "/nowhere",
}


@pytest.mark.parametrize("place", ["environment", "file"])
def test_settings_of_pip_and_python_do_not_stop_the_installation(
    tmp_path: Path, clone: Path, make: Make, place: str
) -> None:
    shutil.rmtree(clone / ".tools")
    _write_wheel(tmp_path / "wheels", make(clone, "--eval=version: ; @echo $(UV_VERSION)", "version").stdout.strip())
    sources = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    if place == "environment":
        done = make(clone, "install", **sources, **STRAY)
    else:
        file = tmp_path / "pip.conf"
        file.write_text("[global]\nrequire-virtualenv = true\nuser = true\nprefix = /nowhere\nroot = /nowhere\n")
        done = make(clone, "install", **sources, PIP_CONFIG_FILE=str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "built").read_text() == "build\n"


def _write_wheel(directory: Path, version: str) -> None:
    """Write a wheel whose only content is the script above."""
    source = directory / "source"
    data, info = source / f"uv-{version}.data" / "scripts", source / f"uv-{version}.dist-info"
    data.mkdir(parents=True)
    info.mkdir()
    (data / "uv").write_text(UV)
    (data / "uv").chmod(0o755)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: uv\nVersion: {version}\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "RECORD").touch()
    name = str(directory / f"uv-{version}-py3-none-any")
    Path(shutil.make_archive(name, "zip", source)).rename(f"{name}.whl")


@pytest.mark.parametrize("value", ["0", "no", "off", "false"])
def test_a_switch_that_is_off_is_off(clone: Path, make: Make, value: str) -> None:
    assert "--volumes" in make(clone, "down", "VOLUMES=1").stdout
    assert "--volumes" not in make(clone, "down", f"VOLUMES={value}").stdout


def test_logs_follow_what_runs(clone: Path, make: Make) -> None:
    tools = clone / "tools"
    tools.mkdir()
    for name in ("make", "env", "bash", "sed", "sh"):
        (tools / name).symlink_to(shutil.which(name) or "")
    make(clone, "install")

    def logs(*words: str, path: str) -> subprocess.CompletedProcess[str]:
        return make(clone, "logs", *words, PATH=path)

    nothing = logs(path=f"{tools}")
    assert nothing.returncode != 0
    assert "error: nothing runs on DATA_DIR=.data; start the platform with: make run" in nothing.stderr
    (tools / "docker").symlink_to("/bin/true")
    assert "'logs' '--environment' 'development'" in logs(path=f"{tools}").stdout
    (clone / ".data").mkdir()
    (clone / ".data/run.json").touch()
    assert "'logs' '--' 'notes' 'user'" in logs("SERVICE=notes user", path=f"{tools}").stdout
    assert "'logs' '--environment' 'production'" in logs("PROD=1", path=f"{tools}").stdout


def test_help_lists_every_target_in_groups(clone: Path, make: Make) -> None:
    text = make(clone, "help").stdout
    groups = [block.splitlines() for block in text.strip().split("\n\n")]
    assert len(groups) > 5
    assert all(len(group) > 1 and not group[0].startswith(" ") for group in groups)
    targets = (clone / "Makefile").read_text().count(".PHONY:") - 1
    assert sum(len(group) - 1 for group in groups) == targets
