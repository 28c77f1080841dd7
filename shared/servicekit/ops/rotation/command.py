"""`python -m servicekit.ops.rotation`: replace the keys between services while they call each other.

Run again after an interruption, it goes on where it stopped.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from opskit.catalog import read_catalog
from servicekit.ops.rotation.errors import RotationError
from servicekit.ops.rotation.fleet import Fleet, NamedFleet, RunFileFleet
from servicekit.ops.rotation.service_keys import MESSAGE_SECONDS, ServiceKeys
from servicekit.ops.rotation.workers import Workers
from servicekit.sealing.key_files import KeyFileError

TIMEOUT_SECONDS: Final = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Rotate; return the exit status: 0, or 1 after a message on stderr."""
    parser = argparse.ArgumentParser(prog="python -m servicekit.ops.rotation", description=__doc__)
    parser.add_argument("--keys-dir", type=Path, required=True, help="holds one directory of keys for each service")
    parser.add_argument("--pair", default="", help="one pair only, such as analytics--user (default: all)")
    parser.add_argument(
        "--message-seconds",
        type=float,
        default=MESSAGE_SECONDS,
        help=f"how long a message lives (default {MESSAGE_SECONDS}; less is for tests)",
    )
    add_fleet_options(parser)
    options = parser.parse_args(arguments)
    keys = ServiceKeys(options.keys_dir, workers_of(options), say=say, message_seconds=options.message_seconds)
    return reporting(keys.rotate(options.pair))


def add_fleet_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the replicas are and how long to wait for them."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--run-file", type=Path, help="run.json of the platform that `make run` started")
    where.add_argument(
        "--replicas",
        type=_replicas,
        help='base URLs by service as JSON: {"user": ["http://user:8002"]}; a name is all its addresses',
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT_SECONDS,
        help=f"seconds to wait for workers in each phase ({TIMEOUT_SECONDS:.0f})",
    )


def workers_of(options: argparse.Namespace) -> Workers:
    """Return the workers of the fleet that the options name."""
    for_operators = [name for name, entry in read_catalog(operators=True).items() if entry.operators]
    fleet: Fleet = (
        RunFileFleet(options.run_file) if options.run_file else NamedFleet(options.replicas, may_be_off=for_operators)
    )
    return Workers(fleet, timeout=options.timeout, say=say)


def say(text: str) -> None:
    """Show progress at once, also where the output is a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def reporting(work: Awaitable[None], *, expected: tuple[type[Exception], ...] = (KeyFileError,)) -> int:
    """Run the work; return 0, or 1 after a message for the user about an error of an expected kind."""

    async def run() -> None:
        await work

    errors: tuple[type[Exception], ...] = (RotationError, OSError, *expected)
    try:
        asyncio.run(run())
    except errors as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the command again to go on from here\n")
        return 130
    return 0


def _replicas(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict) or not all(isinstance(urls, list) for urls in value.values()):
        raise ValueError
    return value
