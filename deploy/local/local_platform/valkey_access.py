"""A Valkey server as its clients see it: URLs, and an ACL that gives each service its own keys."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from local_platform.errors import ServerMissing
from local_platform.probes import NotReady

ADMINISTRATOR = "administrator"
# Ended sessions: written by the service that issues tokens, read by all.
ENDED_SESSIONS = "sessions:ended*"
# What a service has no business with: other clients, the server's configuration, everybody's keys at once.
COMMANDS = "+@all -@admin -@dangerous"


@dataclass(frozen=True, slots=True)
class ValkeyAccess:
    """Address and administrator of a server; `shared_url` is that of a server which the user runs."""

    host: str
    port: int
    password: str = field(repr=False, default="")
    shared_url: str = field(repr=False, default="")

    @classmethod
    def parse(cls, url: str) -> "ValkeyAccess":
        """Read `redis://user:password@host:port/0`; every service uses it as it is."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise ServerMissing("VALKEY_URL has to look like redis://user:password@host:port/0")
        return cls(parts.hostname, parts.port or 6379, shared_url=url)

    def url(self, *, user: str = ADMINISTRATOR, password: str = "", database: int = 0) -> str:
        """Return the URL for a user, the administrator unless one is named."""
        return self.shared_url or f"redis://{user}:{password or self.password}@{self.host}:{self.port}/{database}"

    async def probe(self) -> str:
        """Return once the server answers; raise NotReady before."""
        # The caller asks again at once; the client's own retries would pause for up to a second.
        client = Redis.from_url(self.url(), retry=Retry(NoBackoff(), 0))
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            raise NotReady(f"Valkey does not answer yet ({type(error).__name__})") from error
        finally:
            await client.aclose()
        return ""


def acl(administrator_password: str, passwords: Mapping[str, str], issuers: frozenset[str]) -> str:
    """Return the ACL file. Each service owns the keys and channels `<service>:*`; the file holds hashes only."""
    lines = ["user default off", f"user {ADMINISTRATOR} on #{_hash(administrator_password)} ~* &* +@all"]
    for name, password in passwords.items():
        ended = f"~{ENDED_SESSIONS}" if name in issuers else f"%R~{ENDED_SESSIONS}"
        channels = f"resetchannels &{name}:* &{ENDED_SESSIONS}"
        lines.append(f"user {name} on #{_hash(password)} ~{name}:* {ended} {channels} {COMMANDS}")
    return "\n".join(lines) + "\n"


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
