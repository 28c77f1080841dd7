"""Mails on the running platform: through the gateway, by its own mail server, into files."""

import asyncio
import re
import stat
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psutil

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"
NEW = "a new password of mine"
PATIENCE_SECONDS = 90.0


@cache
def _read(path: Path) -> tuple[str, EmailMessage]:
    """Read a mail and its recipient, once: it is complete when its file has this name."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    mail = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert isinstance(mail, EmailMessage)
    return mail["To"], mail


def _mails(running: Any, address: str) -> list[EmailMessage]:
    """Return the mails to an address, in the order of their events."""
    mails = map(_read, sorted((running.data_dir / "mail").glob("*.eml")))
    return [mail for to, mail in mails if to == address]


async def _until(running: Any, address: str, number: int) -> EmailMessage:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(mails := _mails(running, address)) < number:
            await asyncio.sleep(0.05)
    return mails[number - 1]


def _token_of(mail: EmailMessage, link: str) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    found = re.search(re.escape(link) + r"#token=([\w-]+)", body.get_content())
    assert found, body.get_content()
    return found[1]


async def _post(gateway: httpx2.AsyncClient, path: str, **body: str) -> httpx2.Response:
    return await gateway.post(f"{API}/{path}", json=body)


async def test_an_account_is_verified_and_its_forgotten_password_reset_through_the_gateway(
    gateway: httpx2.AsyncClient, running: Any
) -> None:
    name = f"u{uuid4().hex[:20]}"
    email = f"{name}@mail.dev"
    assert (await _post(gateway, "register", username=name, email=email, password=PASSWORD)).status_code == 201
    token = _token_of(await _until(running, email, 1), f"{running.gateway_url}/verify-email")
    assert (await _post(gateway, "verification/confirm", token=token)).status_code == 204

    assert (await _post(gateway, "password/forgot", email=email)).status_code == 202
    token = _token_of(await _until(running, email, 2), f"{running.gateway_url}/reset-password")
    assert (await _post(gateway, "password/reset", token=token, password=NEW)).status_code == 204

    login = await _post(gateway, "login", username_or_email=email, password=NEW)
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    assert (await gateway.get(f"{API}/profile", headers=headers)).json()["email_verified"] is True
    assert (await _until(running, email, 3))["Subject"] == "Your password was changed"


async def test_each_mail_arrives_once_while_the_workers_and_the_mail_server_are_killed(
    gateway: httpx2.AsyncClient, running: Any
) -> None:
    emails = []
    for _ in range(6):
        name = f"u{uuid4().hex[:20]}"
        body = {"username": name, "email": f"{name}@mail.dev", "password": PASSWORD}
        key = {"Idempotency-Key": name}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await gateway.post(f"{API}/register", json=body, headers=key)).status_code != 201:
                await asyncio.sleep(0.1)
        emails.append(body["email"])
        # The mail is on its way.
        running.platform.supervisor.kill("mail")
        for replica in ("user-1", "user-2"):
            for worker in psutil.Process(running.pid(replica)).children():
                worker.kill()

    for email in emails:
        await _until(running, email, 1)
    assert [len(_mails(running, email)) for email in emails] == [1] * 6
