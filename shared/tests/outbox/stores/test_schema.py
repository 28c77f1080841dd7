"""What a service's migrations make of the outbox, and what the statements of the stores rely on."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text

from servicekit.outbox import DomainEvent, Origin
from servicekit.outbox.postgres import outbox_table
from servicekit.testing.store_harness import MongoHarness, PostgresHarness


def seen(subject: str = "ann") -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject)


async def test_a_migrated_store_is_what_its_description_says(store: Any) -> None:
    if isinstance(store, MongoHarness):
        assert set(await store.database["outbox"].index_information()) == {"_id_", "due", "order"}
        return
    metadata = MetaData()
    outbox_table(metadata)

    def differences(connection: Connection) -> list[Any]:
        options = {
            "include_name": lambda name, kind, _parents: kind != "table" or name == "outbox",
            "compare_server_default": True,
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    async with store.transaction() as tx:
        assert await tx.run_sync(differences) == []


async def test_the_store_numbers_events_in_the_order_of_their_transactions(store: Any) -> None:
    events = [seen() for _ in range(6)]
    for event in events:
        async with store.transaction() as tx:
            await store.outbox.record_all(tx, [(event, ["here", "there"], Origin())])
    if isinstance(store, PostgresHarness):
        async with store.transaction() as tx:
            rows = [(row.id, row.position) for row in await tx.execute(text("SELECT id, position FROM outbox"))]
    else:
        rows = [(found["fact_id"], found["position"]) async for found in store.database["outbox"].find()]

    assert len({position for _, position in rows}) == 12
    by_position = [event_id for event_id, _ in sorted(rows, key=lambda row: row[1])]
    assert by_position[::2] == by_position[1::2] == [event.id for event in events]


async def test_no_relay_waits_for_an_event_that_another_one_is_leasing(store: Any, record: Any) -> None:
    """MongoDB reports a conflict at once; PostgreSQL skips a locked row."""
    await record(seen("ann"), seen("bob"))
    is_postgres = isinstance(store, PostgresHarness)
    async with AsyncExitStack() as stack:
        if is_postgres:
            tx = await stack.enter_async_context(store.transaction())
            await tx.execute(text("SELECT * FROM outbox WHERE subject = 'ann' FOR UPDATE"))
            await tx.execute(text("SET idle_in_transaction_session_timeout = 0"))
        leased = await store.new_outbox().lease_first("here", ["thing.seen"], ["ann", "bob"], limit=2, seconds=60)
    assert sorted(item.event.subject for item in leased) == (["bob"] if is_postgres else ["ann", "bob"])


async def test_mongo_records_events_within_a_transaction_only(store: Any) -> None:
    if isinstance(store, MongoHarness):
        async with store.database.client.start_session() as session:
            with pytest.raises(ValueError, match="transaction"):
                await store.outbox.record_all(session, [(seen(), ["here"], Origin())])
        assert await store.outbox.backlogs() == {}
