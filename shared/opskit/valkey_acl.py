"""The ACL of a Valkey server that all services share: each has a user of its own, with its own keys.

Standard library only: the tools that prepare a deployment run it on a bare host.
"""

import hashlib
from collections.abc import Mapping

ADMINISTRATOR = "administrator"
# Ended sessions: written by the service that issues tokens, read by all.
ENDED_SESSIONS = "sessions:ended*"
# What a service has no business with: other clients, the server's configuration, everybody's keys at once.
COMMANDS = "+@all -@admin -@dangerous"


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
