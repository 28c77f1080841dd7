"""Accounts, in the name of an operator: the user service decides what the operator may do."""

from typing import Any, Protocol
from uuid import UUID

from console_service.audit.actions import AuditTrail
from console_service.sessions.memory import OperatorSession


class AccountService(Protocol):
    """The user service, called with an operator's token. All raise `ServiceError`."""

    async def page(self, token: str, search: str, cursor: str) -> Any: ...

    async def one(self, token: str, user_id: UUID) -> Any: ...

    async def set_role(self, token: str, user_id: UUID, role: str) -> Any: ...

    async def end_sessions(self, token: str, user_id: UUID) -> None: ...

    async def delete(self, token: str, user_id: UUID) -> None: ...


class AccountActions:
    """Reads accounts, and changes them with an audit entry."""

    def __init__(self, service: AccountService, trail: AuditTrail) -> None:
        self._service = service
        self._trail = trail

    async def page(self, operator: OperatorSession, search: str, cursor: str) -> Any:
        """Return a page of accounts."""
        return await self._service.page(operator.access_token, search, cursor)

    async def one(self, operator: OperatorSession, user_id: UUID) -> Any:
        """Return an account."""
        return await self._service.one(operator.access_token, user_id)

    async def set_role(self, operator: OperatorSession, user_id: UUID, role: str) -> Any:
        """Give an account a role, and return it."""
        async with self._trail.recorded(operator, f"user.role.{role}", str(user_id)):
            return await self._service.set_role(operator.access_token, user_id, role)

    async def end_sessions(self, operator: OperatorSession, user_id: UUID) -> None:
        """End all sessions of an account."""
        async with self._trail.recorded(operator, "user.sessions.end", str(user_id)):
            await self._service.end_sessions(operator.access_token, user_id)

    async def delete(self, operator: OperatorSession, user_id: UUID) -> None:
        """Delete an account with all its data."""
        async with self._trail.recorded(operator, "user.delete", str(user_id)):
            await self._service.delete(operator.access_token, user_id)
