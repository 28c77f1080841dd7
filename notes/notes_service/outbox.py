"""The operator's command for dead letters: `python -m notes_service.outbox list` or `retry`."""

from servicekit.outbox.command import outbox_command
from servicekit.outbox.mongo import open_outbox_store
from servicekit.storage.mongo_migrations import DatabaseSettings

if __name__ == "__main__":
    outbox_command(open_outbox_store(DatabaseSettings().mongo_url, application="notes-outbox"))
