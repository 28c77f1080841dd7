"""What Alembic runs for every command."""

from servicekit.storage.postgres_migrations import run_environment
from user_service.models import METADATA

run_environment(METADATA)
