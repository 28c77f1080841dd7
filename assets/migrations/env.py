"""What Alembic runs for every command."""

from assets_service.models import METADATA
from servicekit.storage.postgres_migrations import run_environment

run_environment(METADATA)
