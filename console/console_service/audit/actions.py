"""An action of an operator leaves an entry before it begins, and its outcome afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

from loguru import logger
from uuid_utils.compat import uuid7

from console_service.sessions.memory import OperatorSession
from servicekit.core.errors import ServiceError, ServiceUnavailable

Outcome = Literal["started", "done", "failed"]


class AuditUnavailable(ServiceUnavailable):
    """No entry can be written now, so nothing is done."""

    detail = "The action cannot be recorded now, so it was not begun."


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. A later outcome replaces `started`."""

    id: UUID
    actor_id: UUID
    actor: str
    action: str
    target: str
    outcome: Outcome
    detail: str | None = None


class AuditStore(Protocol):
    async def write(self, entry: AuditEntry) -> None:
        """Write an entry; a repetition has no effect. Raises `ServiceError`."""

    async def page(self, limit: int, before: UUID | None) -> Any:
        """Return the newest entries, or those before one. Raises `ServiceError`."""


class AuditTrail:
    """Records actions."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def page(self, limit: int, before: UUID | None) -> Any:
        """Return what operators did."""
        return await self._store.page(limit, before)

    @asynccontextmanager
    async def recorded(self, operator: OperatorSession, action: str, target: str) -> AsyncIterator[None]:
        """Record what happens within the context. Raises `AuditUnavailable` before anything has happened."""
        entry = await self.begin(operator, action, target)
        try:
            yield
        except BaseException as error:
            await asyncio.shield(self.finish(entry, "failed", type(error).__name__))
            raise
        await asyncio.shield(self.finish(entry, "done"))

    async def begin(self, operator: OperatorSession, action: str, target: str) -> AuditEntry:
        """Record that an action begins. Raises `AuditUnavailable`."""
        entry = AuditEntry(uuid7(), operator.user_id, operator.username, action, target, "started")
        try:
            await self._store.write(entry)
        except ServiceError as error:
            logger.warning("the action {} of {} is refused, no audit entry: {}", action, operator.user_id, error)
            raise AuditUnavailable from error
        return entry

    async def finish(self, entry: AuditEntry, outcome: Outcome, detail: str | None = None) -> None:
        """Record how an action ended. Without this, its entry goes on saying that it was begun."""
        values = (entry.id, entry.actor_id, entry.actor, entry.action, entry.target)
        try:
            await self._store.write(AuditEntry(*values, outcome, detail))
        except ServiceError as error:
            logger.error("the outcome {} of the action {} is not recorded: {}", outcome, entry.action, error)
