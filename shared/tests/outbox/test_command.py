"""The operator's command over both stores: what is parked, and sending it again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from servicekit.outbox import DeliveryRefused, DomainEvent, mongo, postgres
from servicekit.outbox.command import outbox_command

Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def run(world: Any, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command as a service's module would; it returns the exit status and what was printed."""
    module = postgres if world.kind == "postgres" else mongo

    def command(*arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            outbox_command(module.open_outbox_store(SecretStr(world.url), application="outbox"), arguments)
        return int(end.value.code or 0)

    async def run(*arguments: str) -> tuple[int, str]:
        # A command has an event loop of its own.
        status = await asyncio.to_thread(command, *arguments)
        return status, capsys.readouterr().out

    return run


@pytest.fixture
async def parked(world: Any, receiver: Any, make_outbox: Any, record: Any, until: Any) -> list[DomainEvent]:
    """Two facts that were refused."""

    async def refuse(fact: DomainEvent) -> None:
        raise DeliveryRefused("answered 422: Some fields are invalid.")

    async def are_parked() -> bool:
        return len(await world.own.parked()) == 2

    receiver.behaviour["here"] = refuse
    facts = await record(
        *(DomainEvent(type="thing.seen", subject=name, payload={"secret": "hunter2"}) for name in "ab")
    )
    async with make_outbox().relaying():
        await until(are_parked, "both are parked")
    return list(facts)


async def test_the_list_shows_backlog_and_parked_facts_without_their_content(
    run: Run, parked: list[DomainEvent], record: Any
) -> None:
    await record(DomainEvent(type="thing.made", subject="c"))
    status, output = await run("list")
    here, there, *lines = output.splitlines()
    assert status == 0
    assert here.startswith("here: 1 waiting, the oldest for ")
    assert here.endswith("2 parked")
    assert there.endswith("0 parked")
    for fact, line in zip(parked, lines, strict=True):
        assert line.startswith(f"{fact.id} thing.seen of {fact.subject} for here, parked ")
        assert line.endswith("after 1 failures: answered 422: Some fields are invalid.")
    assert "hunter2" not in output


async def test_parked_facts_are_sent_again_one_or_all(run: Run, parked: list[DomainEvent], world: Any) -> None:
    assert await run("retry", str(uuid4())) == (1, "due again: 0\n")
    assert await run("retry", str(parked[0].id)) == (0, "due again: 1\n")
    assert [fact.id for fact in await world.own.parked()] == [parked[1].id]
    assert await run("retry", "--all") == (0, "due again: 1\n")
    assert await run("retry", "--all") == (0, "due again: 0\n")
    assert (await world.own.backlogs())["here"].waiting == 2


async def test_a_retry_says_which(run: Run) -> None:
    assert (await run("retry"))[0] == 2
    assert (await run("retry", "--all", str(uuid4())))[0] == 2
    assert (await run())[0] == 2
