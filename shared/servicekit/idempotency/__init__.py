"""Idempotency-Key: N equal requests have one effect, whichever replicas they reach and whatever dies in between.

    async def create(body: NewNote, user: CurrentUser, key: IdempotencyKey, ...) -> Response:
        attempt = await key.scoped_to(user.id)
        answer = await keys.run(attempt, lambda tx: actions.create(tx, user.id, body))
        return answer.to_response()

`keys` is a `PostgresIdempotency` or a `MongoIdempotency`: it commits the claim of the key, the effect and the stored
answer in one transaction. Work that is expensive or remote belongs before it; `keys.find_stored(attempt)`
returns the response stored earlier, if any, so that a repetition does not pay for that work again.
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
