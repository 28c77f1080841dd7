"""`make admin`: its output, and its effect on the running service."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest

from user_service.admin import main

API = "/api/v1/users"


async def _make_admin(database_url: str, username: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "user_service.admin",
        username,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_a_promotion_revokes_the_accounts_sessions_in_the_running_service(
    replica: Any, database_url: str
) -> None:
    ada = await replica.sign_in("Ada-" + os.urandom(4).hex())

    code, output = await _make_admin(database_url, ada.username.upper())

    assert code == 0, output
    async with asyncio.timeout(60):
        while (await replica.profile(ada)).status_code != 401:
            await asyncio.sleep(0.02)
    again = await replica.log_in_again(ada)
    assert (await replica.http.get(API, headers=again.headers)).status_code == 200


async def test_a_second_promotion_changes_nothing(
    replica: Any, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    admin = await replica.sign_in_admin()

    assert await asyncio.to_thread(main, [admin.username]) == 0
    assert capsys.readouterr().out == f"{admin.username} is an administrator now; log in again to use it\n"
    assert (await replica.profile(admin)).status_code == 200


async def test_an_unknown_name_is_an_error(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    assert await asyncio.to_thread(main, ["nobody-of-this-name"]) == 1
    assert capsys.readouterr().err == "there is no account with the user name 'nobody-of-this-name'\n"
