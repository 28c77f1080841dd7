"""The ACL of a Valkey server that all services share. Each service has its own user, limited to its own keys.

Standard library only: the tools that prepare a deployment run it on a bare host.
"""

import hashlib
from collections.abc import Mapping

ADMINISTRATOR = "administrator"
# Revoked sessions: written by the service that issues tokens, read by all.
ENDED_SESSIONS = "sessions:ended*"
# What works on single keys, whose names the rules for keys check, and what a connection and a script need. Nothing
# lists keys, clients or channels, removes the scripts of others, or concerns the server as a whole. `client|tracking`
# is missing because it would tell the names of all changed keys.
COMMANDS = (
    "-@all +@string +@hash +@set +@sortedset +@stream +@hyperloglog +@list "
    "+del +unlink +exists +expire +expireat +pexpire +pexpireat +persist +ttl +pttl +type +touch +renamenx "
    "+multi +exec +discard +watch +unwatch "
    "+eval +evalsha +script|load +script|exists +time "
    "+publish +subscribe +unsubscribe "
    "+auth +hello +ping +select +reset +quit +client|id +client|setname +client|setinfo "
    "-@admin -@dangerous"
)


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
