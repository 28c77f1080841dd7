"""`python -m local_platform.platform.mail_server PORT FOLDER`: the mailbox of `make run`.

It accepts every mail by SMTP and writes it into the folder: a private `.eml` file each, named by the Message-ID. A mail
that is sent again replaces its file.
"""

import asyncio
import hashlib
import re
import sys
from email import message_from_bytes, policy
from pathlib import Path
from typing import Final

from aiosmtpd.smtp import SMTP, Envelope, Session

from local_platform.secret_files import private_directory
from local_platform.supervision.ports import HOST
from opskit.atomic_file import write_atomically

_PLAIN: Final = re.compile(r"<([\w.-]{1,100})@[^<>]*>")


class MailFolder:
    """Writes mails into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_directory(folder)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Write the mail before the client learns that it was accepted."""
        content = envelope.original_content or b""
        mail = message_from_bytes(content, policy=policy.SMTPUTF8)
        path = self._folder / f"{_name(str(mail['Message-ID']))}.eml"
        await asyncio.to_thread(write_atomically, path, content, durable=False)
        print(f"{mail['To']}: {mail['Subject']}: {path}", flush=True)
        return "250 OK"


def _name(message_id: str) -> str:
    found = _PLAIN.fullmatch(message_id.strip())
    return found[1].lstrip(".") if found else hashlib.sha256(message_id.encode()).hexdigest()[:32]


async def serve(port: int, folder: Path) -> None:
    """Accept mails for ever."""
    box = MailFolder(folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, enable_SMTPUTF8=True, hostname="localhost"), HOST, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
