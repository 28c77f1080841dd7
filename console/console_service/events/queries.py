"""What waits in the outboxes, and what was given up."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from console_service.asking import ask_all
from servicekit.core.errors import NotFound


class Outboxes(Protocol):
    """The outboxes of services. Both raise `ServiceError`."""

    async def outbox(self, service: str) -> Mapping[str, Any]: ...

    async def retry(self, service: str, ids: Sequence[str] | None) -> int: ...


class EventQueries:
    """Asks all services at once, and leaves out those that do not respond."""

    def __init__(self, outboxes: Outboxes, services: Sequence[str]) -> None:
        self._outboxes = outboxes
        self._services = services

    async def events(self) -> dict[str, Any]:
        found = await ask_all(self._services, self._outboxes.outbox, "outbox")
        names = ("destinations", "dead_letters")
        return {
            "services": [{"service": service, **{name: outbox[name] for name in names}} for service, outbox in found]
        }

    def check_service(self, service: str) -> None:
        """Raises `NotFound` for a service that does not exist."""
        if service not in self._services:
            raise NotFound("There is no such service.")

    async def retry(self, service: str, ids: Sequence[str] | None) -> dict[str, int]:
        """Deliver dead letters again, all of a service without ids."""
        self.check_service(service)
        return {"retried": await self._outboxes.retry(service, ids)}
