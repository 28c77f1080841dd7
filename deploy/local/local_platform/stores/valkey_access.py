"""A Valkey server as its clients see it: URLs and readiness."""

import asyncio
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from local_platform.errors import ServerMissing
from local_platform.supervision.probes import RESPONSE_SECONDS, NotReady
from opskit.valkey_acl import ADMINISTRATOR


@dataclass(frozen=True, slots=True)
class ValkeyAccess:
    """Address and administrator of a server; `shared_url` is the URL of a server that the user runs."""

    host: str
    port: int
    password: str = field(repr=False, default="")
    shared_url: str = field(repr=False, default="")

    @classmethod
    def parse(cls, url: str) -> "ValkeyAccess":
        """Parse `redis://user:password@host:port/0`; every service uses this URL unchanged."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise ServerMissing("VALKEY_URL must look like redis://user:password@host:port/0")
        return cls(parts.hostname, parts.port or 6379, shared_url=url)

    def url(self, *, user: str = ADMINISTRATOR, password: str = "", database: int = 0) -> str:
        """Return the URL for a user, the administrator unless one is named."""
        return self.shared_url or f"redis://{user}:{password or self.password}@{self.host}:{self.port}/{database}"

    async def probe(self) -> str:
        """Log in and send PING; raise NotReady unless the server responds."""
        parts = urlsplit(self.url())
        credentials = [unquote(word) for word in (parts.username, parts.password) if word]
        commands = [["AUTH", *credentials]] if credentials else []
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                responses = await _send(self.host, self.port, [*commands, ["PING"]], tls=parts.scheme == "rediss")
        except (OSError, TimeoutError) as error:
            raise NotReady("Valkey does not respond yet") from error
        if responses[-1] != b"+PONG":
            raise NotReady(f"Valkey responds {responses[-1].decode(errors='replace')}")
        return ""


async def _send(host: str, port: int, commands: list[list[str]], *, tls: bool) -> list[bytes]:
    """Send commands and return the first line of each response.

    The client library is not used: its import takes longer than the store's start.
    """
    reader, writer = await asyncio.open_connection(host, port, ssl=tls or None)
    try:
        for words in commands:
            encoded = [word.encode() for word in words]
            writer.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))
        return [(await reader.readline()).rstrip() for _ in commands]
    finally:
        writer.close()
