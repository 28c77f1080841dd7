"""The mails that `make run` keeps instead of sending them."""

import asyncio
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

from console_service.responses import seconds_timestamp
from servicekit.core.errors import NotFound

MAX_MAILS: Final = 200
MAX_BYTES: Final = 1024 * 1024
SUFFIX: Final = ".eml"
_ID: Final = re.compile(r"(?!\.)[\w.-]{1,120}")


class MailQueries:
    """Reads a folder of mails. Without one, there is nothing to find."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    async def page(self) -> dict[str, Any]:
        """Return the newest mails. Raises `NotFound` where none are kept."""
        return {"items": await asyncio.to_thread(self._items, self._existing())}

    async def one(self, mail_id: str) -> dict[str, Any]:
        """Return the text and the HTML of a mail. Raises `NotFound`."""
        folder = self._existing()
        # Such a name leads to no other folder.
        if not _ID.fullmatch(mail_id):
            raise NotFound
        try:
            mail = await asyncio.to_thread(_read, folder / f"{mail_id}{SUFFIX}")
        except OSError:
            raise NotFound from None
        return {"text": _content(mail, "plain"), "html": _content(mail, "html")}

    def _existing(self) -> Path:
        if self._folder is None:
            raise NotFound("Mails are kept by `make run` only.")
        return self._folder

    def _items(self, folder: Path) -> list[dict[str, Any]]:
        found = []
        for path in folder.glob(f"*{SUFFIX}"):
            try:
                found.append((path.stat().st_mtime, path))
            except OSError:
                # It has just been replaced.
                continue
        found.sort(reverse=True)
        items = []
        for modified, path in found[:MAX_MAILS]:
            try:
                mail = _read(path)
            except OSError:
                continue
            items.append(
                {
                    "id": path.stem,
                    "to": str(mail.get("To", "")),
                    "subject": str(mail.get("Subject", "")),
                    "at": seconds_timestamp(modified),
                }
            )
        return items


def _read(path: Path) -> EmailMessage:
    with path.open("rb") as file:
        mail = message_from_bytes(file.read(MAX_BYTES), policy=policy.default)
    if not isinstance(mail, EmailMessage):
        raise OSError("not a mail")
    return mail


def _content(mail: EmailMessage, kind: str) -> str | None:
    part = mail.get_body((kind,))
    if part is None:
        return None
    try:
        return str(part.get_content())
    except (LookupError, ValueError):
        return None
