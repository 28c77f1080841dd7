"""Sends mails by SMTP (RFC 5321), and tells the outbox what a failure means."""

import ssl
from collections.abc import Iterable
from email.message import EmailMessage
from typing import Final
from urllib.parse import unquote, urlsplit

import aiosmtplib
from pydantic import SecretStr

from servicekit.outbox import DeliveryError, DeliveryRefused, DestinationUnavailable

# Of one command. The relay bounds the whole delivery.
COMMAND_SECONDS: Final = 6.0


class SmtpServer:
    """A mail server, by its URL.

        smtp://host:25                     STARTTLS if the server offers it
        smtp://user:password@host:587      STARTTLS, or nothing is sent
        smtps://user:password@host:465     TLS from the start

    User and password are percent-encoded. Raises ValueError for another URL.
    """

    def __init__(self, url: SecretStr, *, local_hostname: str) -> None:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("SMTP_URL must be smtp://[user:password@]host[:port], or smtps://")
        self._host = parts.hostname
        self._tls = parts.scheme == "smtps"
        self._username = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password or "")
        self._port = parts.port or (465 if self._tls else 587 if self._username else 25)
        self._local_hostname = local_hostname
        self._context = ssl.create_default_context()

    async def send(self, message: EmailMessage) -> None:
        """Return when the server has accepted the message. Raises `DeliveryError`."""
        try:
            async with self._client() as client:
                await client.send_message(message)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refusal("recipient", [refused.code for refused in error.recipients]) from None
        except aiosmtplib.SMTPDataError as error:
            raise _refusal("message", [error.code]) from None
        except aiosmtplib.SMTPNotSupported:
            raise DeliveryRefused("the mail server does not support an address with such letters") from None
        except aiosmtplib.SMTPResponseException as error:
            # What a server says to the connection, the login or the sender concerns all mails. Its text may quote them.
            raise DestinationUnavailable(f"{type(error).__name__} with status {error.code}") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DestinationUnavailable(type(error).__name__) from None

    def _client(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._username,
            password=self._password if self._username else None,
            use_tls=self._tls,
            # Without encryption, the password would travel in plain text.
            start_tls=False if self._tls else True if self._username else None,
            tls_context=self._context,
            local_hostname=self._local_hostname,
            timeout=COMMAND_SECONDS,
        )


def _refusal(what: str, codes: Iterable[int]) -> DeliveryError:
    """Return the error for a refused recipient or message: status 5yz is for good (RFC 5321, section 4.2.1)."""
    code = max(codes)
    text = f"the mail server refused the {what} with status {code}"
    return DeliveryRefused(text) if code >= 500 else DeliveryError(text)
