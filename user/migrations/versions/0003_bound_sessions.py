"""Revocations of many sessions at once, and refresh tokens that are answered once more at most."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "ended_accounts",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_ended_accounts")),
    )
    op.create_index(op.f("ix_ended_accounts_expires_at"), "ended_accounts", ["expires_at"], unique=False)
    op.create_index(
        "ix_ended_accounts_unpublished",
        "ended_accounts",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("NOT published"),
    )
    # The newest revocations are published first.
    op.create_index(
        "ix_ended_sessions_pending",
        "ended_sessions",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("NOT published"),
    )
    op.drop_index(
        "ix_ended_sessions_unpublished", table_name="ended_sessions", postgresql_where=sa.text("NOT published")
    )
    # Both are null for a token that a process of the version before has rotated.
    op.add_column("refresh_tokens", sa.Column("used_from", sa.Text(), nullable=True))
    op.add_column("refresh_tokens", sa.Column("repeated_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("refresh_tokens", "repeated_at")
    op.drop_column("refresh_tokens", "used_from")
    op.create_index(
        "ix_ended_sessions_unpublished",
        "ended_sessions",
        ["session_id"],
        unique=False,
        postgresql_where=sa.text("NOT published"),
    )
    op.drop_index("ix_ended_sessions_pending", table_name="ended_sessions", postgresql_where=sa.text("NOT published"))
    op.drop_table("ended_accounts")
