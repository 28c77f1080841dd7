"""What Alembic runs for every command."""

from assets_service.models import METADATA
from servicekit.migrations import run_environment

run_environment(METADATA)
