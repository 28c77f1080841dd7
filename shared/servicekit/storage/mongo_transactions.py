"""MongoDB transactions that are repeated after transient errors, within limits of our own."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

ATTEMPTS: Final = 5
RETRY_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 0.25
WRITE_CONFLICT: Final = 112
_LIFETIME_EXCEEDED: Final = 290

T = TypeVar("T")
Document = dict[str, Any]
Work = Callable[[AsyncClientSession], Awaitable[T]]


async def in_transaction(client: AsyncMongoClient[Document], work: Work[T]) -> T:
    """Run `work` in a transaction with snapshot reads and a majority commit, and return its result.

    A transient error, such as a write conflict, makes `work` run again: at most `ATTEMPTS` times and for at most
    `RETRY_SECONDS`, with full jitter. The driver's own `with_transaction` would go on for two minutes.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    async with client.start_session() as session:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await _run_once(session, work, deadline)
            except PyMongoError as error:
                transient = error.has_error_label("TransientTransactionError")
                if not transient or attempt == ATTEMPTS or time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE_SECONDS, 0.01 * 2**attempt)))
    raise AssertionError("unreachable")


async def _run_once(session: AsyncClientSession, work: Work[T], deadline: float) -> T:
    await session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority"))
    try:
        result = await work(session)
    except BaseException as error:
        if session.in_transaction:
            await session.abort_transaction()
        if _exceeded_lifetime(error):
            raise _transient_error() from error
        raise
    await _commit(session, deadline)
    return result


async def _commit(session: AsyncClientSession, deadline: float) -> None:
    """Commit, and repeat a commit of unknown outcome. The server knows the transaction by its number.

    A commit that the server interrupts may have happened. The server tells by the next attempt, so that one is made
    even after the deadline.
    """
    interrupted = False
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if _exceeded_lifetime(error) and not interrupted:
                interrupted = True
            elif not error.has_error_label("UnknownTransactionCommitResult") or time.monotonic() >= deadline:
                raise
        else:
            return


def _exceeded_lifetime(error: BaseException) -> bool:
    """Whether the server ended the transaction because it was older than `transactionLifetimeLimitSeconds`."""
    return isinstance(error, OperationFailure) and error.code == _LIFETIME_EXCEEDED


def _transient_error() -> OperationFailure:
    """Return the error with the label that the server omits: the transaction had no effect, and may run again."""
    text = "the transaction took longer than its lifetime"
    return OperationFailure(text, _LIFETIME_EXCEEDED, {"errorLabels": ["TransientTransactionError"]})
