"""Idempotency-Key: N equal requests have one effect, whichever replicas they reach and whatever dies in between.

    async def create(body: NewNote, user: CurrentUser, key: IdempotencyKey, ...) -> Response:
        attempt = await key.by(user.id)
        answer = await keys.run(attempt, lambda tx: actions.create(tx, user.id, body))
        return answer.response()

`keys` is a `PostgresIdempotency` or a `MongoIdempotency`: it commits the claim of the key, the effect and the stored
answer in one transaction. Work that is expensive or remote belongs before it; `keys.peek(attempt)` tells beforehand
whether there is a stored answer, so that a repetition does not pay for that work again.
"""

from servicekit.idempotency.answer import Answer
from servicekit.idempotency.attempt import Attempt, KeyInUse, KeyReused
from servicekit.idempotency.http import Fingerprints, IdempotencyKey, KeyedRequest

__all__ = [
    "Answer",
    "Attempt",
    "Fingerprints",
    "IdempotencyKey",
    "KeyInUse",
    "KeyReused",
    "KeyedRequest",
]
