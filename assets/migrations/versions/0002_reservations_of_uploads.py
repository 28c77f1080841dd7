"""Room that uploads in progress reserve in their owner's quota."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Services of the version before insert rows without these columns: their uploads reserve nothing.
    op.add_column("loose_objects", sa.Column("owner_id", sa.Uuid(), nullable=True))
    op.add_column("loose_objects", sa.Column("key_id", sa.LargeBinary(length=32), nullable=True))
    op.add_column("loose_objects", sa.Column("reserved_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("loose_objects", sa.Column("reserved_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_loose_objects_owner_id",
        "loose_objects",
        ["owner_id"],
        unique=False,
        postgresql_where=sa.text("owner_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_loose_objects_owner_id", table_name="loose_objects", postgresql_where=sa.text("owner_id IS NOT NULL")
    )
    op.drop_column("loose_objects", "reserved_until")
    op.drop_column("loose_objects", "reserved_bytes")
    op.drop_column("loose_objects", "key_id")
    op.drop_column("loose_objects", "owner_id")
