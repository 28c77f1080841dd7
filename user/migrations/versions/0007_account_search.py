"""Indexes for the search of accounts by the beginning of a name or an address."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_COLUMNS = ("username", "email", "display_name")


def upgrade() -> None:
    for column in _COLUMNS:
        op.create_index(
            f"ix_users_read_{column}_prefix", "users_read", [sa.text(f"lower({column}) text_pattern_ops")], unique=False
        )


def downgrade() -> None:
    for column in _COLUMNS:
        op.drop_index(f"ix_users_read_{column}_prefix", table_name="users_read")
