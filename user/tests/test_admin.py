"""`make admin`: its output, and its effect on the running service."""

import asyncio
import os
import subprocess
import sys
from typing import Any

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


async def test_a_second_promotion_changes_nothing(replica: Any, database_url: str) -> None:
    admin = await replica.sign_in_admin()

    assert (await _make_admin(database_url, admin.username))[0] == 0
    assert (await replica.profile(admin)).status_code == 200


async def test_an_unknown_name_is_an_error(replica: Any, database_url: str) -> None:
    code, output = await _make_admin(database_url, "nobody-of-this-name")

    assert code == 1
    assert output == "there is no account with the user name 'nobody-of-this-name'\n"
