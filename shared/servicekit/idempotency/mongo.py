"""Idempotency in MongoDB: a transaction claims a key by inserting a document with the key's id.

A second transaction that inserts the same id fails: with a write conflict while the first is in progress, and with a
duplicate key once it has committed. The transaction of a process that dies is left to the server, which ends it after
`transactionLifetimeLimitSeconds` (3 on our servers). Until then the key is in use.

`run` waits for the end of such an orphaned claim. Its request may be a repetition by the gateway, after the replica
that had the claim died. The client learns the outcome from this response alone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import DeleteOne, IndexModel, ReplaceOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, OperationFailure

from servicekit.idempotency.request import KEPT, IdempotentRequest
from servicekit.idempotency.response import StoredResponse
from servicekit.storage.mongo_transactions import WRITE_CONFLICT, in_transaction

COLLECTION_NAME: Final = "idempotency_keys"
INDEXES: Final = [IndexModel("created_at", name="expiry", expireAfterSeconds=int(KEPT.total_seconds()))]
"""What a service's migration creates on its collection `COLLECTION_NAME`."""

# The server looks for expired transactions at half their lifetime, so an orphaned claim ends after 4.5 s at the latest.
ORPHANED_SECONDS = 5.0
ORPHANED_POLL_SECONDS: Final = 0.2
_DUPLICATE_KEY: Final = 11000

Document = dict[str, Any]


class MongoIdempotency:
    """Runs the effect of a request once for each key, over the collection `idempotency_keys` of a database."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._client = database.client
        self._keys = database[COLLECTION_NAME]

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        """Return the stored response, if any. Raises `KeyReused` if it belongs to another request."""
        if request.id is None:
            return None
        found = await self._keys.find_one({"_id": request.id, "created_at": {"$gt": datetime.now(UTC) - KEPT}})
        if found is None:
            return None
        headers = tuple((name, value) for name, value in found["headers"])
        return request.replay(StoredResponse(found["status"], found["body"], headers), found["fingerprint"])

    async def run(
        self, request: IdempotentRequest, effect: Callable[[AsyncClientSession], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """Return the stored response, or run `effect` in a transaction and store its response if that is successful.

        `effect` may run again after its transaction was undone, so it does nothing but use its session. An error of
        `effect` releases the key. Raises `KeyInUse` if another request with the key is still in progress after
        `ORPHANED_SECONDS`, and `KeyReused` if the key belongs to another request.
        """

        async def alone(session: AsyncClientSession) -> Sequence[StoredResponse]:
            return [await effect(session)]

        deadline = time.monotonic() + ORPHANED_SECONDS
        while True:
            try:
                return (await self.run_together([request], alone))[0]
            except KeyClaimed:
                stored = await self.find_stored(request)
            if stored is not None:
                return stored
            if time.monotonic() >= deadline:
                raise request.in_use()
            await asyncio.sleep(ORPHANED_POLL_SECONDS)

    async def run_together(
        self,
        requests: Sequence[IdempotentRequest],
        effect: Callable[[AsyncClientSession], Awaitable[Sequence[StoredResponse]]],
    ) -> Sequence[StoredResponse]:
        """Run the common effect of several requests in one transaction, and return their responses.

        `effect` returns a response for each. Raises `KeyClaimed` if one of the keys has been used before.
        """

        async def claim_and_run(session: AsyncClientSession) -> Sequence[StoredResponse]:
            await self._claim(session, [request.id for request in requests if request.id is not None])
            responses = await effect(session)
            await self._store(session, requests, responses)
            return responses

        return await in_transaction(self._client, claim_and_run)

    async def _claim(self, session: AsyncClientSession, key_ids: Sequence[bytes]) -> None:
        if not key_ids:
            return
        now = datetime.now(UTC)
        # A document that has expired and was not deleted yet is replaced. If there is another one, the filter does not
        # match it, and the upsert fails on its id.
        claims = [
            ReplaceOne({"_id": key_id, "created_at": {"$lte": now - KEPT}}, {"created_at": now}, upsert=True)
            for key_id in key_ids
        ]
        try:
            await self._keys.bulk_write(claims, session=session)
        except BulkWriteError as error:
            if {failure["code"] for failure in error.details["writeErrors"]} == {_DUPLICATE_KEY}:
                raise KeyClaimed from None
            raise
        except OperationFailure as error:
            if error.code == WRITE_CONFLICT:
                raise KeyClaimed from None
            raise

    async def _store(
        self, session: AsyncClientSession, requests: Sequence[IdempotentRequest], responses: Sequence[StoredResponse]
    ) -> None:
        outcomes = [
            _outcome(request.id, request.fingerprint, response)
            for request, response in zip(requests, responses, strict=True)
            if request.id is not None
        ]
        if outcomes:
            await self._keys.bulk_write(outcomes, session=session)


def _outcome(key_id: bytes, fingerprint: bytes, response: StoredResponse) -> UpdateOne | DeleteOne:
    if not response.is_success:
        return DeleteOne({"_id": key_id})
    stored = {
        "fingerprint": fingerprint,
        "status": response.status,
        "headers": [list(pair) for pair in response.headers],
        "body": response.body,
    }
    return UpdateOne({"_id": key_id}, {"$set": stored})


class KeyClaimed(Exception):
    """Another request has claimed the key, or has stored its response."""
