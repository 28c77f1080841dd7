"""All tables of this service; migrations are written from them."""

from typing import Final

from sqlalchemy import MetaData, Table

from assets_service.database import Base
from assets_service.records import tables as _records
from servicekit.idempotency.postgres import idempotency_table
from servicekit.outbox.postgres import outbox_table

__all__ = ["IDEMPOTENCY_KEYS", "METADATA", "OUTBOX"]

# Importing a feature's tables adds them to the metadata.
_FEATURES = (_records,)

METADATA: Final[MetaData] = Base.metadata
IDEMPOTENCY_KEYS: Final[Table] = idempotency_table(METADATA)
OUTBOX: Final[Table] = outbox_table(METADATA)
