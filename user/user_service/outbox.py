"""The operator's command for dead letters: `python -m user_service.outbox list` or `retry`."""

from servicekit.outbox.command import outbox_command
from servicekit.outbox.postgres import open_outbox_store
from servicekit.storage.postgres_migrations import DatabaseSettings

if __name__ == "__main__":
    outbox_command(open_outbox_store(DatabaseSettings().database_url, application="user-outbox"))
