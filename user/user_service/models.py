"""All tables of this service, from which migrations are written."""

from typing import Final

from sqlalchemy import MetaData, Table

from servicekit.idempotency.postgres import idempotency_table
from servicekit.outbox.postgres import outbox_table
from user_service.accounts import tables as _accounts
from user_service.database import Base
from user_service.logins import tables as _logins
from user_service.sessions import tables as _sessions

__all__ = ["IDEMPOTENCY_KEYS", "METADATA", "OUTBOX"]

# Importing a feature's tables has put them into the metadata.
_FEATURES = (_accounts, _logins, _sessions)

METADATA: Final[MetaData] = Base.metadata
IDEMPOTENCY_KEYS: Final[Table] = idempotency_table(METADATA)
OUTBOX: Final[Table] = outbox_table(METADATA)
