"""Copies of the repository, for tests of what changes source files."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from local_platform.layout import REPOSITORY
from opskit.catalog import read_catalog

PATIENCE_SECONDS = 300.0
UNLIMITED = {"GATEWAY_RATE_GENERAL": "0", "GATEWAY_RATE_AUTH": "0", "USER_RATE": "0"}


def copy_repository(root: Path) -> Path:
    """Copy the repository's files, committed or not, into a folder, and return it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, root / name)
    return root


def environment(root: Path) -> dict[str, str]:
    """Return an environment in which the packages of the copy come before the installed ones."""
    services = read_catalog(root / "deploy" / "services.toml")
    folders = ["shared", *services, "gateway", "deploy/local", "deploy/release"]
    path = os.pathsep.join(str(root / folder) for folder in folders)
    return {**os.environ, **UNLIMITED, "PYTHONPATH": path}


def run(root: Path, *command: str, **variables: str) -> str:
    """Run one of the environment's commands in the copy; return its output."""
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts"), command[0]), *command[1:]],
        cwd=root,
        env={**environment(root), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@asynccontextmanager
async def running_copy(root: Path, data_dir: Path, *options: str) -> AsyncIterator[str]:
    """Run the whole platform of the copy as `make run` does; give the gateway's URL.

    Its progress is written to `data_dir/progress`.
    """
    argv = [sys.executable, "-m", "local_platform", "run", "--no-console", "--gateway-port", "0", *options]
    argv += ["--data-dir", str(data_dir)]
    with (data_dir / "progress").open("wb") as progress:
        launcher = await asyncio.create_subprocess_exec(
            *argv, cwd=root, env=environment(root), stdout=asyncio.subprocess.PIPE, stderr=progress
        )
    assert launcher.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            ready = (await launcher.stdout.readline()).decode()
        assert ready.startswith("ready "), (data_dir / "progress").read_text()
        yield ready.split()[1]
    finally:
        if launcher.returncode is None:
            launcher.send_signal(signal.SIGTERM)
        await launcher.wait()
    assert launcher.returncode == 0
