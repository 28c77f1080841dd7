"""What a service's migrations make of the outbox, and what its statements rest on."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text

from servicekit.outbox import DomainEvent, Origin
from servicekit.outbox.postgres import outbox_table


def seen(subject: str = "ann") -> DomainEvent:
    return DomainEvent(type="thing.seen", subject=subject)


async def test_a_migrated_store_differs_in_nothing_from_its_description(world: Any, kind: str) -> None:
    if kind == "mongo":
        assert set(await world.database["outbox"].index_information()) == {"_id_", "due", "order"}
        return
    metadata = MetaData()
    outbox_table(metadata)

    def differences(connection: Connection) -> list[Any]:
        options = {
            "include_name": lambda name, kind, _parents: kind != "table" or name == "outbox",
            "compare_server_default": True,
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    async with world.transaction() as tx:
        assert await tx.run_sync(differences) == []


async def test_the_store_itself_numbers_facts_in_the_order_of_their_transactions(world: Any, kind: str) -> None:
    facts = [seen() for _ in range(6)]
    for fact in facts:
        async with world.transaction() as tx:
            await world.own.record(tx, fact, ["here", "there"], Origin())
    if kind == "postgres":
        async with world.transaction() as tx:
            rows = (await tx.execute(text("SELECT id, position FROM outbox"))).all()
    else:
        rows = [(found["fact_id"], found["position"]) async for found in world.database["outbox"].find()]

    assert len({position for _, position in rows}) == 12
    by_position = [fact_id for fact_id, _ in sorted(rows, key=lambda row: row[1])]
    assert by_position[::2] == by_position[1::2] == [fact.id for fact in facts]


async def test_no_relay_waits_for_a_fact_that_another_one_is_claiming(world: Any, kind: str, record: Any) -> None:
    """MongoDB answers a conflict at once; in PostgreSQL a row that is locked is passed over."""
    await record(seen("ann"), seen("bob"))
    async with AsyncExitStack() as stack:
        if kind == "postgres":
            tx = await stack.enter_async_context(world.transaction())
            await tx.execute(text("SELECT * FROM outbox WHERE subject = 'ann' FOR UPDATE"))
            await tx.execute(text("SET idle_in_transaction_session_timeout = 0"))
        claims = await world.store().lease_first("here", ["thing.seen"], ["ann", "bob"], limit=2, seconds=60)
    assert [claim.fact.subject for claim in claims] == (["bob"] if kind == "postgres" else ["ann", "bob"])


async def test_mongo_takes_facts_within_a_transaction_only(world: Any, kind: str) -> None:
    if kind == "mongo":
        async with world.database.client.start_session() as session:
            with pytest.raises(ValueError, match="transaction"):
                await world.own.record(session, seen(), ["here"], Origin())
        assert await world.own.backlogs() == {}
