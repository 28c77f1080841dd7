"""Idempotency over MongoDB: the claim is a document inserted by the transaction that runs the effect.

A second transaction that inserts the same id meets a write conflict at once, or a duplicate once the first has
committed. A process that dies leaves its transaction to the server, which ends it after
`transactionLifetimeLimitSeconds` (3 on our servers); until then the key is in use. A repetition waits as long as that,
because it may be the gateway's, of a request whose replica has just died: nobody else could tell its client.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pymongo import AsyncMongoClient, IndexModel, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from servicekit.idempotency.request import KEPT, IdempotentRequest
from servicekit.idempotency.response import StoredResponse

COLLECTION_NAME: Final = "idempotency_keys"
INDEXES: Final = [IndexModel("created_at", name="expiry", expireAfterSeconds=int(KEPT.total_seconds()))]
"""What a service's migration creates on its collection `COLLECTION_NAME`."""

ATTEMPTS: Final = 5
RETRY_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 0.25
# The server looks for transactions that are too old at half of that interval, so the last of them is gone after 4.5 s.
ORPHANED_SECONDS = 5.0
ORPHANED_POLL_SECONDS: Final = 0.2
_WRITE_CONFLICT: Final = 112
_LIFETIME_EXCEEDED: Final = 290

T = TypeVar("T")
Document = dict[str, Any]


async def in_transaction(client: AsyncMongoClient[Document], work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
    """Run `work` in a transaction (snapshot reads, majority commit) and return what it returned.

    Transient errors run it again, write conflicts and the end of a transaction's lifetime on a busy server among them:
    `ATTEMPTS` times at most and for `RETRY_SECONDS` at most, with full jitter. The driver's own `with_transaction`
    would go on for two minutes.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    async with client.start_session() as session:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await _once(session, work, deadline)
            except PyMongoError as error:
                transient = error.has_error_label("TransientTransactionError")
                if not transient or attempt == ATTEMPTS or time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE_SECONDS, 0.01 * 2**attempt)))
    raise AssertionError("unreachable")


async def _once(session: AsyncClientSession, work: Callable[[AsyncClientSession], Awaitable[T]], deadline: float) -> T:
    await session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority"))
    try:
        result = await work(session)
    except BaseException as error:
        if session.in_transaction:
            await session.abort_transaction()
        if _outlived(error):
            raise _transient() from error
        raise
    told = False
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            # A commit may be sent again: the server knows the transaction by its number. One that was interrupted says
            # nothing of what it did, and the next is told at once, so that one is sent whatever the time.
            if _outlived(error) and not told:
                told = True
            elif not error.has_error_label("UnknownTransactionCommitResult") or time.monotonic() >= deadline:
                raise
        else:
            return result


def _outlived(error: BaseException) -> bool:
    """Whether the server ended the transaction because it was older than `transactionLifetimeLimitSeconds`."""
    return isinstance(error, OperationFailure) and error.code == _LIFETIME_EXCEEDED


def _transient() -> OperationFailure:
    """Nothing of such a transaction has happened, so it may run again; the server omits the label that says so."""
    text = "the transaction took longer than its lifetime"
    return OperationFailure(text, _LIFETIME_EXCEEDED, {"errorLabels": ["TransientTransactionError"]})


class _Taken(Exception):
    """Another attempt holds the key, or has stored its answer."""


class MongoIdempotency:
    """Runs an effect once per key, over the collection `idempotency_keys` of a database."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._client = database.client
        self._keys = database[COLLECTION_NAME]

    async def find_stored(self, attempt: IdempotentRequest) -> StoredResponse | None:
        """Return the stored answer, if there is one. Raises `KeyReused` when it belongs to another request."""
        if attempt.id is None:
            return None
        found = await self._keys.find_one({"_id": attempt.id, "created_at": {"$gt": datetime.now(UTC) - KEPT}})
        if found is None:
            return None
        headers = tuple((name, value) for name, value in found["headers"])
        return attempt.replay(StoredResponse(found["status"], found["body"], headers), found["fingerprint"])

    async def run(
        self, attempt: IdempotentRequest, effect: Callable[[AsyncClientSession], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """Return the stored answer, or run `effect` in a transaction and store its answer if it is a success.

        `effect` may run more than once, each time after everything before was undone, so it does nothing but use its
        session. What it raises frees the key. Raises `KeyInUse` when another attempt is in flight and remains so for
        `ORPHANED_SECONDS`, `KeyReused` when the key belongs to another request.
        """
        key_id = attempt.id
        if key_id is None:
            return await in_transaction(self._client, effect)

        async def claim_and_run(session: AsyncClientSession) -> StoredResponse:
            await self._claim(session, key_id)
            answer = await effect(session)
            await self._store(session, key_id, attempt.fingerprint, answer)
            return answer

        deadline = time.monotonic() + ORPHANED_SECONDS
        while True:
            try:
                return await in_transaction(self._client, claim_and_run)
            except _Taken:
                stored = await self.find_stored(attempt)
            if stored is not None:
                return stored
            if time.monotonic() >= deadline:
                raise attempt.in_use()
            await asyncio.sleep(ORPHANED_POLL_SECONDS)

    async def _claim(self, session: AsyncClientSession, key_id: bytes) -> None:
        now = datetime.now(UTC)
        try:
            # A document that has expired but is not deleted yet is taken over; one that has not makes the upsert
            # insert a second one, which its id forbids.
            await self._keys.replace_one(
                {"_id": key_id, "created_at": {"$lte": now - KEPT}}, {"created_at": now}, upsert=True, session=session
            )
        except DuplicateKeyError:
            raise _Taken from None
        except OperationFailure as error:
            if error.code == _WRITE_CONFLICT:
                raise _Taken from None
            raise

    async def _store(
        self, session: AsyncClientSession, key_id: bytes, fingerprint: bytes, answer: StoredResponse
    ) -> None:
        if not answer.is_success:
            await self._keys.delete_one({"_id": key_id}, session=session)
            return
        stored = {
            "fingerprint": fingerprint,
            "status": answer.status,
            "headers": [list(pair) for pair in answer.headers],
            "body": answer.body,
        }
        await self._keys.update_one({"_id": key_id}, {"$set": stored}, session=session)
