"""Gives an account the role `admin`.

    DATABASE_URL=… python -m user_service.admin USERNAME

It needs the database only. The running service notices the sessions that the change has revoked, and announces them.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from servicekit.core.clock import utc_now
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.outbox import DomainEvent
from servicekit.storage.postgres import create_engine
from servicekit.storage.postgres_migrations import DatabaseSettings
from servicekit.storage.postgres_models import sessions_of
from user_service.accounts.actions import AccountNotFound, RoleActions
from user_service.accounts.rules import Role
from user_service.accounts.store import PostgresAccounts
from user_service.models import IDEMPOTENCY_KEYS
from user_service.sessions.rules import Revocations


async def promote(username: str, database_url: SecretStr) -> None:
    """Make the account an administrator and revoke its sessions. Raises `AccountNotFound`."""
    engine = create_engine(database_url, application="user-admin", pool_size=1)
    sessions = sessions_of(engine)
    accounts = PostgresAccounts(sessions, PostgresIdempotency(sessions, IDEMPOTENCY_KEYS), _refuse_event)
    try:
        await RoleActions(accounts, announce=_leave_to_the_service, clock=utc_now).set_role_by_name(
            username, Role.ADMIN
        )
    finally:
        await engine.dispose()


async def _refuse_event(_session: AsyncSession, event: DomainEvent) -> None:
    """Raise NotImplementedError: a change of role is no domain event."""
    raise NotImplementedError(event.type)


def _leave_to_the_service(_revoked: Revocations) -> None:
    """Do nothing: every worker looks for revoked sessions that are not published yet."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m user_service.admin", description="Give an account the role admin.")
    parser.add_argument("username")
    username = parser.parse_args(arguments).username
    try:
        asyncio.run(promote(username, DatabaseSettings().database_url))
    except AccountNotFound:
        print(f"there is no account with the user name {username!r}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{username} is an administrator now; log in again to use it")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
