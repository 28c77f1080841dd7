"""The operator's command: the list of dead letters, and sending them again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from servicekit.outbox import DomainEvent, OutboxStore
from servicekit.outbox.command import outbox_command

Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def run_command(store: Any, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command as a service's module does; return the exit status and the output."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[OutboxStore[Any]]:
        yield store.outbox

    def command(*arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            outbox_command(opening(), arguments)
        return int(end.value.code or 0)

    async def run(*arguments: str) -> tuple[int, str]:
        # A command has an event loop of its own.
        status = await asyncio.to_thread(command, *arguments)
        return status, capsys.readouterr().out

    return run


@pytest.fixture
async def dead(store: Any, record: Any) -> list[DomainEvent]:
    """Two events that were refused."""
    events = await record(
        *(DomainEvent(type="thing.seen", subject=name, payload={"secret": "hunter2"}) for name in "ab")
    )
    for leased in await store.outbox.lease_first("here", ["thing.seen"], ["a", "b"], limit=2, seconds=60):
        await store.outbox.dead_letter(leased, "status 422: Some fields are invalid.")
    return list(events)


async def test_the_list_shows_the_backlog_and_dead_letters_without_their_content(
    run_command: Run, dead: list[DomainEvent], record: Any
) -> None:
    await record(DomainEvent(type="thing.made", subject="c"))
    status, output = await run_command("list")
    here, there, *lines = output.splitlines()
    assert status == 0
    assert here.startswith("here: 1 waiting, the oldest for ")
    assert here.endswith("2 dead letters")
    assert there.endswith("0 dead letters")
    for event, line in zip(dead, lines, strict=True):
        assert line.startswith(f"{event.id} thing.seen of {event.subject} for here, given up ")
        assert line.endswith("after 1 failures: status 422: Some fields are invalid.")
    assert "hunter2" not in output


async def test_dead_letters_are_sent_again_one_or_all(run_command: Run, dead: list[DomainEvent], store: Any) -> None:
    assert await run_command("retry", str(uuid4())) == (1, "due again: 0\n")
    assert await run_command("retry", str(dead[0].id)) == (0, "due again: 1\n")
    assert [found.id for found in await store.outbox.dead_letters()] == [dead[1].id]
    assert await run_command("retry", "--all") == (0, "due again: 1\n")
    assert await run_command("retry", "--all") == (0, "due again: 0\n")
    assert (await store.outbox.backlogs())["here"].waiting == 2


async def test_a_retry_needs_an_id_or_all(run_command: Run) -> None:
    assert (await run_command("retry"))[0] == 2
    assert (await run_command("retry", "--all", str(uuid4())))[0] == 2
    assert (await run_command())[0] == 2
