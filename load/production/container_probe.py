"""Finds out what a process in a container can reach and do. Run it with the container's interpreter.

The first argument is a JSON object: `names` that must not resolve, `addresses` ([host, port]) that must not be
reachable, `own` ([name, port]) that must be, and for a service `other`, another service on the same store. With
`routed` false a route outside is allowed: in a cluster, policies take its place, and a mail server needs one. The
output is a JSON object that maps each claim to what contradicts it, or to "".

What must be reachable comes first, and is tried until a deadline: DNS may give a name that is new for 30 s late. The
other claims are tried once, when names are known to resolve.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CONNECT_SECONDS = 2.0
# The caches of a cluster's DNS forget that a name had no address within 30 s.
OWN_SECONDS = 60.0
POLL_SECONDS = 1.0
SECRETS = Path("/run/secrets")
# Who has one of these may control other containers.
PRIVILEGES = [Path(name) for name in ("/var/run/docker.sock", "/run/docker.sock", "/var/run/secrets/kubernetes.io")]
CONTAINER = ("/", "/app", "/etc", "/opt", "/usr/lib", "/var/lib")


def resolved(names: list[str]) -> Iterator[str]:
    """Yield the names that resolve."""
    for name in names:
        try:
            yield f"{name} is {socket.gethostbyname(name)}"
        except OSError:
            continue


def reached(addresses: list[tuple[str, int]]) -> Iterator[str]:
    """Yield the addresses that accept a connection."""
    for host, port in addresses:
        try:
            socket.create_connection((host, port), CONNECT_SECONDS).close()
        except OSError:
            continue
        yield f"{host}:{port} accepts connections"


def missed(own: list[tuple[str, int]]) -> Iterator[str]:
    """Yield what cannot be reached by name. If nothing could be reached, the other claims would prove nothing."""
    end = time.monotonic() + OWN_SECONDS
    for host, port in own:
        while not list(reached([(host, port)])):
            if time.monotonic() > end:
                yield f"{host}:{port} cannot be reached"
                break
            time.sleep(POLL_SECONDS)


def routed() -> Iterator[str]:
    """Yield a default route, which would lead out of the networks of this container."""
    lines = Path("/proc/net/route").read_text().splitlines()[1:]
    yield from ("there is a default route" for line in lines if line.split()[1] == "00000000")


def written() -> Iterator[str]:
    """Yield the folders of the image that can be written to."""
    for folder in CONTAINER:
        path = Path(folder, "written-by-evidence")
        try:
            path.touch()
        except OSError:
            continue
        path.unlink()
        yield f"{folder} is writable"


def privileged() -> Iterator[str]:
    """Yield each privilege of the process."""
    if os.getuid() == 0 or os.getgid() == 0:
        yield "it runs as root"
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    yield from (f"{name} is {status[name]}" for name in ("CapEff", "CapPrm", "CapBnd") if int(status[name], 16))
    if status["NoNewPrivs"] != "1":
        yield "it may gain privileges"
    yield from (str(path) for path in PRIVILEGES if path.exists())


def secret(name: str) -> str | None:
    """Return a mounted secret, or None."""
    path = SECRETS / name
    return path.read_text().strip() if path.exists() else None


def opened_database(other: str) -> Iterator[str]:
    """Yield databases of others that this service can open."""
    if url := secret("database_url"):
        yield from opened_postgres(url.replace("postgresql+asyncpg:", "postgresql:"), other)
    if url := secret("mongo_url"):
        yield from opened_mongo(url, other)


def opened_postgres(url: str, other: str) -> Iterator[str]:
    """Connect with the service's own password: to its own database, which has to work, and to others."""
    import asyncio

    import asyncpg

    async def connect(to: str) -> None:
        connection = await asyncpg.connect(to)
        await connection.close()

    asyncio.run(connect(url))
    for database in (other, "postgres", "template1"):
        try:
            asyncio.run(connect(url.rpartition("/")[0] + "/" + database))
        except asyncpg.InsufficientPrivilegeError:
            continue
        yield f"it can open the database {database}"


def opened_mongo(url: str, other: str) -> Iterator[str]:
    """Read with the service's own password: its own database, which has to work, and others."""
    import pymongo
    from pymongo.errors import OperationFailure

    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(url, serverSelectionTimeoutMS=10000)
    client.get_default_database().command("ping")
    client.get_default_database()["notes"].find_one()
    for database in (other, "admin", "local"):
        try:
            client[database]["notes"].find_one()
        except OperationFailure as error:
            if error.code == 13:
                continue
        yield f"it can open the database {database}"
    client.close()


def opened_keys(other: str) -> Iterator[str]:
    """Yield what Valkey lets this service do with the keys of others."""
    import redis

    client = redis.Redis.from_url(secret("valkey_url") or "")
    own = os.environ["SERVICE_NAME"]
    client.set(f"{own}:evidence", "1", ex=1)
    forbidden: dict[str, Callable[[], object]] = {
        f"read {other}:…": lambda: client.get(f"{other}:evidence"),
        f"write {other}:…": lambda: client.set(f"{other}:evidence", "1", ex=1),
        "list all keys": lambda: client.keys("*"),
        "empty the server": client.flushall,
    }
    # Only the service that issues tokens may write revoked sessions.
    if own != "user":
        forbidden["write revoked sessions"] = lambda: client.set("sessions:ended:evidence", "1", ex=1)
    for what, attempt in forbidden.items():
        try:
            attempt()
        except redis.exceptions.NoPermissionError:
            continue
        yield f"it may {what}"
    client.close()


def main() -> None:
    asked = json.loads(sys.argv[1])
    # In this order: `join` runs them.
    contradictions = {
        "what it uses accepts connections": missed(asked["own"]),
        "names of what it does not use do not resolve": resolved(asked["names"]),
        "their addresses accept no connection": reached(asked["addresses"]),
        "its image is read-only": written(),
        "neither root, nor capabilities, nor control of other containers": privileged(),
    }
    if "other" in asked:
        if asked.get("routed", True):
            contradictions["no route leads outside"] = routed()
        contradictions["another service's database refuses it"] = opened_database(asked["other"])
        contradictions["another service's keys in Valkey refuse it"] = opened_keys(asked["other"])
    print(json.dumps({claim: "; ".join(found) for claim, found in contradictions.items()}))


main()
