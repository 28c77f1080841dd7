"""Idempotency-Key: a repeated request has one effect, at whichever replica it arrives and even if processes die.

    async def create(body: NewNote, user: CurrentUser, key: IdempotencyKey, ...) -> Response:
        request = await key.scoped_to(user.id)
        response = await idempotency.run(request, lambda tx: store.create(tx, user.id, body))
        return response.to_response()

`idempotency` is a `PostgresIdempotency` or a `MongoIdempotency`. It commits the claim of the key, the effect and the
stored response in one transaction. Expensive or remote work belongs before that transaction. To spare a repetition
that work, ask `idempotency.find_stored(request)` first: it returns the stored response, if any.
"""

from servicekit.idempotency.key_header import Fingerprints, IdempotencyKey, IdempotencyKeyHeader
from servicekit.idempotency.request import IdempotentRequest, KeyInUse, KeyReused
from servicekit.idempotency.response import StoredResponse

__all__ = [
    "Fingerprints",
    "IdempotencyKey",
    "IdempotencyKeyHeader",
    "IdempotentRequest",
    "KeyInUse",
    "KeyReused",
    "StoredResponse",
]
