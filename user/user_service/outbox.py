"""The operator's command for facts that were given up: `python -m user_service.outbox list` or `retry`."""

from servicekit.migrations import DatabaseSettings
from servicekit.outbox.command import outbox_command
from servicekit.outbox.postgres import open_fact_store

if __name__ == "__main__":
    outbox_command(open_fact_store(DatabaseSettings().database_url, application="user-outbox"))
