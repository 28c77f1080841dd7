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
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    WaitQueueTimeoutError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

from servicekit.storage.mongo_tracing import CommandSpans

Document = dict[str, Any]

# What the driver raises when no primary responds in time.
_UNAVAILABLE = (ConnectionFailure, ExecutionTimeout, WaitQueueTimeoutError, WTimeoutError)
# A server that has just started does not have the keys yet that sign the cluster's time.
_KEY_NOT_FOUND = 211

POOL_SIZE = 50
# Longer than a failover with tuned elections (1–2 s), shorter than the gateway's time-outs.
SELECTION_MILLISECONDS = 5_000
CONNECT_MILLISECONDS = 2_000
CLOSE_SECONDS = 2.0


def create_client(url: SecretStr, *, application: str, traced: bool = False) -> AsyncMongoClient[Document]:
    """Return a client that acknowledges writes by majority and retries reads and writes once.

    With `traced`, the commands of sampled requests have spans.
    """
    return AsyncMongoClient(
        url.get_secret_value(),
        appname=application,
        maxPoolSize=POOL_SIZE,
        serverSelectionTimeoutMS=SELECTION_MILLISECONDS,
        connectTimeoutMS=CONNECT_MILLISECONDS,
        waitQueueTimeoutMS=SELECTION_MILLISECONDS,
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
    # The driver has no class for this one.
    return isinstance(error, OperationFailure) and error.code == _KEY_NOT_FOUND


async def ping(db: AsyncDatabase[Document]) -> None:
    """Raise unless a primary responds."""
    await db.command("ping")


async def close(client: AsyncMongoClient[Document]) -> None:
    """Close the client without the driver's wait of 30 s for a server that has stopped."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()
    except TimeoutError:
        logger.warning("the MongoDB client did not close in time")
