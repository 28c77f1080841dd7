"""The index of invitations that are neither accepted nor withdrawn, for their list."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_index(
        "ix_email_tokens_open_invitations",
        "email_tokens",
        ["id"],
        unique=False,
        postgresql_where=sa.text("purpose = 'invitation' AND used_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_email_tokens_open_invitations", table_name="email_tokens")
