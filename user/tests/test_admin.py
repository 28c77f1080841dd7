"""`make admin`: what the operator sees, and that the running service takes notice."""

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


async def test_an_operator_promotes_an_account_whose_tokens_end_in_the_running_service(
    user: Any, database_url: str
) -> None:
    ada = await user.sign_in("Ada-" + os.urandom(4).hex())

    code, output = await _make_admin(database_url, ada.username.upper())

    assert code == 0, output
    async with asyncio.timeout(60):
        while (await user.profile(ada)).status_code != 401:
            await asyncio.sleep(0.02)
    again = await user.log_in_again(ada)
    assert (await user.http.get(API, headers=again.headers)).status_code == 200


async def test_a_second_promotion_changes_nothing(user: Any, sign_in_admin: Any, database_url: str) -> None:
    admin = await sign_in_admin(user)

    assert (await _make_admin(database_url, admin.username))[0] == 0
    assert (await user.profile(admin)).status_code == 200


async def test_an_unknown_name_is_said_clearly(user: Any, database_url: str) -> None:
    code, output = await _make_admin(database_url, "nobody-of-this-name")

    assert code == 1
    assert output == "there is no account with the user name 'nobody-of-this-name'\n"
