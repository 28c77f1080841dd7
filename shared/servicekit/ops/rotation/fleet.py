"""The addresses of each service's replicas. They are read anew each time, because replicas come and go."""

import asyncio
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import orjson

from servicekit.ops.rotation.errors import FleetUnknown

GATEWAY = "gateway"


class Fleet(Protocol):
    async def replicas(self) -> Mapping[str, Sequence[str]]:
        """Return the base URL of every replica by service. Raises `FleetUnknown`."""

    async def require(self, services: Collection[str]) -> None:
        """Raise `FleetUnknown` unless the replicas of these services can be found."""


class RunFileFleet:
    """The replicas that `make run` lists in `DATA_DIR/run.json`.

    A restarting replica is listed. A replica that was stopped on purpose is not; it reads all keys at its start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def replicas(self) -> Mapping[str, Sequence[str]]:
        try:
            processes = orjson.loads(self._path.read_bytes())["processes"]
            found: dict[str, list[str]] = {}
            for process in processes:
                if process["service"] != GATEWAY and process["url"].startswith("http"):
                    found.setdefault(process["service"], []).append(process["url"])
        except OSError as error:
            raise FleetUnknown(f"no platform runs there: {self._path}: {error.strerror}") from error
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise FleetUnknown(f"{self._path} is not a list of processes") from error
        return found

    async def require(self, services: Collection[str]) -> None:
        # A service that is not listed has no process that could hold a key.
        await self.replicas()


class NamedFleet:
    """Replicas behind DNS names, as in compose: a name means every address that it resolves to.

    The name of a service that `may_be_off` need not exist. Such a service reads all keys at its start.
    """

    def __init__(self, urls: Mapping[str, Sequence[str]], may_be_off: Collection[str] = ()) -> None:
        """`urls` are base URLs by service, such as http://user:8002."""
        self._urls = urls
        self._may_be_off = may_be_off

    async def replicas(self) -> Mapping[str, Sequence[str]]:
        return {
            service: [url for name in urls for url in await _resolved(name, may_be_off=service in self._may_be_off)]
            for service, urls in self._urls.items()
        }

    async def require(self, services: Collection[str]) -> None:
        if forgotten := sorted(set(services) - self._urls.keys()):
            raise FleetUnknown(f"the addresses of {', '.join(forgotten)} are missing")


async def _resolved(url: str, *, may_be_off: bool) -> list[str]:
    parts = urlsplit(url)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except OSError as error:
        if may_be_off and error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            return []
        raise FleetUnknown(f"{parts.hostname} does not resolve: {error.strerror}") from error
    hosts = {f"[{address[0]}]" if family == socket.AF_INET6 else str(address[0]) for family, *_, address in found}
    return [f"{parts.scheme}://{host}:{parts.port or 80}" for host in sorted(hosts)]
