"""The TypeScript client against the platform. `make client-tools` installs what this needs."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import httpx2
import pytest

from tests.conftest import PASSWORD, Running, SignUp

REPOSITORY = Path(__file__).parents[1]
TOOLS = REPOSITORY / ".tools" / "clients"
FOLDER = REPOSITORY / "clients" / "typescript"
pytestmark = [
    pytest.mark.skipif(not (TOOLS / ".complete").exists(), reason="it needs: make client-tools"),
    pytest.mark.needs("analytics", "notes", "assets"),
]


async def _run(*command: str, **variables: str) -> None:
    path = f"{TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command, cwd=FOLDER, env={**os.environ, "PATH": path, **variables}, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def test_it_builds_as_a_package_and_calls_every_operation(
    running: Running, gateway: httpx2.AsyncClient, sign_up: SignUp, tmp_path: Path
) -> None:
    admin = (await sign_up(gateway)).username
    await _run(sys.executable, "-m", "local_platform", "admin", "--data-dir", str(running.data_dir), admin)
    await _run("npm", "pack", "--silent", "--pack-destination", str(tmp_path))

    assert _names(tmp_path) == ["baseplate-client-0.1.0.tgz"]
    variables = {"PLATFORM_URL": running.gateway_url, "USERNAME": admin, "PASSWORD": PASSWORD}
    await _run("node", "--test", "tests/platform.test.mjs", **variables)
