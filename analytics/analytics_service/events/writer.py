"""Records events and what they add to the rollups, in one transaction."""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Final, TypeVar
from uuid import UUID

from loguru import logger
from prometheus_client import Counter
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from analytics_service.events.rules import Event, counted
from analytics_service.events.store import EventStore
from analytics_service.rollups.rules import count_events, count_users
from analytics_service.rollups.shard_pool import Lane, Lanes
from analytics_service.rollups.store import RollupStore
from servicekit.core.errors import ServiceUnavailable
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.mongo import MongoIdempotency

# How long a request tries again while others write the same, in seconds; then it is the client's turn to try.
PATIENCE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 0.1
# About 100 bytes each. Who is not among them costs a look into the database, nothing else.
REMEMBERED_USERS: Final = 50_000
_DUPLICATE_KEY: Final = 11000
_WRITE_CONFLICT: Final = 112

AGAIN = Counter("service_event_transactions_repeated_total", "Transactions begun anew because others wrote the same.")

T = TypeVar("T")


class Contended(ServiceUnavailable):
    detail = "Others are recording the same events. Try again."


class Ledger:
    """Writes events, users and rollups together, or nothing."""

    def __init__(self, keys: MongoIdempotency, events: EventStore, rollups: RollupStore, lanes: Lanes) -> None:
        self._keys = keys
        self._events = events
        self._rollups = rollups
        self._lanes = lanes
        self._users = _RecentUsers(REMEMBERED_USERS)

    async def record(
        self,
        attempt: IdempotentRequest,
        events: Sequence[Event],
        labels: Mapping[str, str],
        answer: Callable[[int], StoredResponse],
    ) -> StoredResponse:
        """Add the events that are not there yet, once per attempt; `answer` is told how many those are.

        Raises `KeyInUse` and `KeyReused` for the attempt, `Contended` and `Overloaded` when the time is up.
        """
        async with self._lanes.lend() as lane:
            earlier_tries = count()

            async def effect(session: AsyncClientSession) -> StoredResponse:
                # Nearly always all of them are new: only a second try, which has met something, looks beforehand.
                fresh = await self._events.unknown(session, events) if next(earlier_tries) else events
                if fresh:
                    await self._write(session, lane, fresh, labels)
                return answer(len(fresh))

            stored = await _patiently(lambda: self._keys.run(attempt, effect))
        # They are committed, and users stay: from now on these are known without a look.
        self._users.add(_users_of(events))
        return stored

    async def _write(
        self, session: AsyncClientSession, lane: Lane, fresh: Sequence[Event], labels: Mapping[str, str]
    ) -> None:
        users = self._users.without(_users_of(fresh))
        new_users = await self._events.add_users(session, users) if users else 0
        await self._events.add(session, fresh)
        try:
            counts = {**count_events(counted(fresh, labels)), **count_users(new_users)}
            await self._rollups.add(session, counts, lane.shard)
        except OperationFailure as error:
            if error.code == _WRITE_CONFLICT:
                lane.move()
            raise


class _RecentUsers:
    """Users who are known to be in the database."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._users: OrderedDict[UUID, None] = OrderedDict()

    def without(self, users: Iterable[UUID]) -> set[UUID]:
        """Return those of `users` who are not known."""
        return {user for user in users if user not in self._users}

    def add(self, users: Iterable[UUID]) -> None:
        for user in users:
            self._users[user] = None
            self._users.move_to_end(user)
        while len(self._users) > self._capacity:
            self._users.popitem(last=False)


def _users_of(events: Iterable[Event]) -> set[UUID]:
    return {event.user_id for event in events if event.user_id is not None}


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` again while others are in its way. Raises `Contended` when that lasts too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await work()
        except PyMongoError as error:
            if not _others_were_first(error):
                raise
            if time.monotonic() >= deadline:
                logger.warning("events are not recorded, others were always first: {}", type(error).__name__)
                raise Contended from error
        AGAIN.inc()
        await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))


def _others_were_first(error: PyMongoError) -> bool:
    """Whether a transaction met another one, which succeeds when it is begun anew."""
    if isinstance(error, BulkWriteError):
        return {item["code"] for item in error.details["writeErrors"]} == {_DUPLICATE_KEY}
    return error.has_error_label("TransientTransactionError")
