"""The operator's command: list the dead letters, and send them again.

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
    opening: AbstractAsyncContextManager[OutboxStore[Any]], arguments: Sequence[str] | None = None
) -> NoReturn:
    """Run `list`, `retry ID` or `retry --all`, and exit: with 1 if there is no dead letter with this ID."""
    options = _parser().parse_args(arguments)
    sys.exit(asyncio.run(_run(opening, options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Domain events that other services have not received yet.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the backlog, and every dead letter with its last error")
    retry = commands.add_parser(
        "retry", help="send dead letters again; later events of their subjects may have arrived meanwhile"
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", type=UUID, help="the id of an event, as `list` shows it")
    which.add_argument("--all", action="store_true", help="all dead letters")
    return parser


async def _run(opening: AbstractAsyncContextManager[OutboxStore[Any]], options: argparse.Namespace) -> int:
    async with opening as store:
        if options.command == "list":
            await _list(store)
            return 0
        count = await store.retry(None if options.all else [options.id])
    sys.stdout.write(f"due again: {count}\n")
    return 0 if count or options.all else 1


async def _list(store: OutboxStore[Any]) -> None:
    for destination, backlog in sorted((await store.backlogs()).items()):
        sys.stdout.write(
            f"{destination}: {backlog.waiting} waiting, the oldest for {backlog.oldest_seconds:.0f} s; "
            f"{backlog.dead_letters} dead letters\n"
        )
    for dead_letter in await store.dead_letters():
        sys.stdout.write(_line(dead_letter) + "\n")


def _line(dead: DeadLetter) -> str:
    return (
        f"{dead.id} {dead.type} of {dead.subject} for {dead.destination}, "
        f"given up {dead.since.isoformat(timespec='seconds')} after {dead.failures} failures: {dead.last_error}"
    )
