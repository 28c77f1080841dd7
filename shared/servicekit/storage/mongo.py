"""MongoDB by PyMongo's asynchronous client: one client for each process (docs/adr/0001)."""

import asyncio
from datetime import UTC
from typing import Any

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from loguru import logger
from pydantic import SecretStr
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

from servicekit.storage.mongo_tracing import CommandSpans

Document = dict[str, Any]

# What the driver raises when no primary responds in time.
_UNAVAILABLE = (ConnectionFailure, ExecutionTimeout, WTimeoutError)
# Errors that say nothing about the command: https://www.mongodb.com/docs/manual/reference/error-codes/
_UNAVAILABLE_CODES = frozenset(
    {
        *(6, 7, 89, 202, 9001),  # another member cannot be reached
        *(11, 13, 18),  # user, right or password refused
        *(24, 46, 112),  # locked; write conflict
        *(50, 262, 290, 11601),  # a time-out, or an operator's cancellation
        *(64, 79, 100),  # too few members acknowledge a write
        *(91, 11600, 11602),  # the server stops, or its role changes
        *(133, 189, 10058, 10107, 13435, 13436),  # no primary
        *(211, 246),  # a server that has just started lacks the keys that sign the cluster's time, or a snapshot
        *(39, 14031),  # a file cannot be written; disk full
        *(125, 146, 365, 371, 462),  # out of memory or of cache; writes blocked; admission refused
        *(225, 239, 251, 317),  # the transaction, its snapshot or the pool is gone
    }
)
# Labels by which the server says that the same may succeed later.
_TRANSIENT_LABELS = ("TransientTransactionError", "RetryableWriteError", "SystemOverloadedError")

POOL_SIZE = 50
# Longer than a failover with tuned elections (1–2 s), shorter than the gateway's time-outs.
SELECTION_MILLISECONDS = 5_000
CONNECT_MILLISECONDS = 2_000
CLOSE_SECONDS = 2.0
# The driver repeats an operation once: both together take less than the gateway waits.
OPERATION_MILLISECONDS = 7_000


def create_client(
    url: SecretStr,
    *,
    application: str,
    traced: bool = False,
    operation_milliseconds: int | None = OPERATION_MILLISECONDS,
) -> AsyncMongoClient[Document]:
    """Return a client that acknowledges writes by majority and retries reads and writes once.

    With `traced`, the commands of sampled requests have spans. A job without a client that waits passes None for
    `operation_milliseconds`.
    """
    return AsyncMongoClient(
        url.get_secret_value(),
        appname=application,
        maxPoolSize=POOL_SIZE,
        serverSelectionTimeoutMS=SELECTION_MILLISECONDS,
        connectTimeoutMS=CONNECT_MILLISECONDS,
        waitQueueTimeoutMS=SELECTION_MILLISECONDS,
        # For an operation that hangs, as under `fsyncLock`.
        socketTimeoutMS=operation_milliseconds,
        # A new primary is noticed within this time, even before an operation fails.
        heartbeatFrequencyMS=1_000,
        event_listeners=[CommandSpans()] if traced else [],
        retryReads=True,
        retryWrites=True,
    )


def database(client: AsyncMongoClient[Document]) -> AsyncDatabase[Document]:
    """Return the database that the URL names, with aware UTC times and standard UUIDs."""
    return client.get_default_database(
        codec_options=CodecOptions(
            tz_aware=True,
            tzinfo=UTC,
            uuid_representation=UuidRepresentation.STANDARD,
            datetime_conversion=DatetimeConversion.DATETIME,
        ),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern("majority", wtimeout=SELECTION_MILLISECONDS),
        read_concern=ReadConcern("majority"),
    )


def is_unavailable(error: Exception) -> bool:
    """Whether an error means that MongoDB is unavailable. Any other error is a failure of the service."""
    if isinstance(error, _UNAVAILABLE):
        return True
    if not isinstance(error, OperationFailure):
        return False
    if any(error.has_error_label(label) for label in _TRANSIENT_LABELS):
        return True
    return not _UNAVAILABLE_CODES.isdisjoint(_codes_of(error))


def _codes_of(error: OperationFailure) -> list[int | None]:
    if not isinstance(error, BulkWriteError):
        return [error.code]
    # The driver's own code only says that some of the writes failed.
    failures = [*error.details.get("writeErrors", ()), *error.details.get("writeConcernErrors", ())]
    return [failure.get("code") for failure in failures]


async def ping(db: AsyncDatabase[Document]) -> None:
    """Raise unless a primary responds to this user. Unlike this command, `ping` succeeds without a password."""
    await db.command("listCollections", nameOnly=True, authorizedCollections=True)


async def close(client: AsyncMongoClient[Document]) -> None:
    """Close the client without the driver's wait of 30 s for a server that has stopped."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()
    except TimeoutError:
        logger.warning("the MongoDB client did not close in time")
