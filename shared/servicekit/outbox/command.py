"""The operator's side of the outbox: which facts were given up, and sending them again.

A service makes its command of it:

    if __name__ == "__main__":
        outbox_command(open_outbox_store(Settings().database_url, application="user-outbox"))
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn
from uuid import UUID

from servicekit.outbox.store import DeadLetter, OutboxStore


def outbox_command(
    store: AbstractAsyncContextManager[OutboxStore[Any]], arguments: Sequence[str] | None = None
) -> NoReturn:
    """Run `list`, `retry ID` or `retry --all` and exit: 0, or 1 where no such fact is parked."""
    options = _parser().parse_args(arguments)
    sys.exit(asyncio.run(_run(store, options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Facts that other services have not heard of yet.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the backlog and every parked fact with its last error")
    retry = commands.add_parser(
        "retry", help="send parked facts again; later facts of their subjects may have arrived meanwhile"
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", type=UUID, help="the id of a fact, as `list` shows it")
    which.add_argument("--all", action="store_true", help="all parked facts")
    return parser


async def _run(store: AbstractAsyncContextManager[OutboxStore[Any]], options: argparse.Namespace) -> int:
    async with store as facts:
        if options.command == "list":
            await _list(facts)
            return 0
        count = await facts.retry(None if options.all else options.id)
    sys.stdout.write(f"due again: {count}\n")
    return 0 if count or options.all else 1


async def _list(facts: OutboxStore[Any]) -> None:
    for destination, backlog in sorted((await facts.backlogs()).items()):
        sys.stdout.write(
            f"{destination}: {backlog.waiting} waiting, the oldest for {backlog.oldest_seconds:.0f} s; "
            f"{backlog.parked} parked\n"
        )
    for fact in await facts.parked():
        sys.stdout.write(_line(fact) + "\n")


def _line(fact: DeadLetter) -> str:
    since = fact.parked_at.isoformat(timespec="seconds")
    return (
        f"{fact.id} {fact.type} of {fact.subject} for {fact.destination}, "
        f"parked {since} after {fact.failures} failures: {fact.last_error}"
    )
