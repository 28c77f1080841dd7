"""A real mail server, in the process of the tests."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

PATIENCE_SECONDS = 60.0


class Mailbox:
    """The mails that have arrived, in order. `refusals` are the responses to the next recipients."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[EmailMessage] = []
        self.refusals: list[str] = []
        self.logins: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.SMTPUTF8)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return "250 OK"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)

    def of(self, address: str, subject: str | None = None) -> list[EmailMessage]:
        """Return the mails that have arrived at this address, with this subject if it is given."""
        return [mail for mail in self.mails if str(mail["To"]) == address and subject in (None, mail["Subject"])]

    async def until(self, address: str, number: int = 1, subject: str | None = None) -> EmailMessage:
        """Wait until so many mails have arrived at this address, with this subject if it is given; return the last.

        Mails do not wait for each other: one that was requested first may arrive last.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(found := self.of(address, subject)) < number:
                await self._changed.wait()
        return found[number - 1]


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def token_of(mail: EmailMessage) -> str:
    """Return the token that the mail's link carries."""
    found = re.search(r"#token=([\w-]+)", text_of(mail))
    assert found, text_of(mail)
    return found[1]


@asynccontextmanager
async def serving(mailbox: Mailbox, **options: Any) -> AsyncIterator[Mailbox]:
    """Run a server for the mailbox, on a port that stays the same when it is started again."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, enable_SMTPUTF8=True, hostname="mail.test", **options), "127.0.0.1", mailbox.port
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()
