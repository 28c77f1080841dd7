"""Writes events, and what they add to the rollups, in one transaction."""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar
from uuid import UUID

from loguru import logger
from prometheus_client import Counter
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from analytics_service.events.rules import Event, count_minutes
from analytics_service.events.store import EventStore
from analytics_service.rollups.rules import count_events, count_users
from analytics_service.rollups.shard_pool import PooledShard, ShardPool
from analytics_service.rollups.store import RollupStore
from servicekit.core.errors import ServiceUnavailable
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.storage import mongo
from servicekit.storage.group_commit import GroupCommit

# A request repeats its transaction for so many seconds while others write the same. Then the client has to retry.
PATIENCE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 0.1
# About 100 bytes each. Any other user costs one query of the database.
CACHED_USERS: Final = 50_000
# The events of requests that share a transaction, as many as one request may have.
MOST_EVENTS: Final = 1_000
_DUPLICATE_KEY: Final = 11000
_WRITE_CONFLICT: Final = 112

REPEATED = Counter(
    "service_event_transactions_repeated_total", "Transactions begun anew because others wrote the same."
)

T = TypeVar("T")


class Contended(ServiceUnavailable):
    detail = "Others are recording the same events. Try again."


class _NotTogether(Exception):
    """The requests of a group must be recorded one by one."""


@dataclass(frozen=True, slots=True)
class _Recording:
    request: IdempotentRequest
    events: Sequence[Event]
    labels: Mapping[str, str]
    respond: Callable[[int], StoredResponse]


class EventWriter:
    """Fulfils `actions.EventRecorder`: writes events, users and rollups together, or nothing.

    Concurrent requests share a transaction. Raises `Contended` when other transactions come first for too long,
    `Overloaded` when no shard becomes free.
    """

    def __init__(self, keys: MongoIdempotency, events: EventStore, rollups: RollupStore, shards: ShardPool) -> None:
        self._keys = keys
        self._events = events
        self._rollups = rollups
        self._shards = shards
        self._seen_users = _UserCache(CACHED_USERS)
        self._group: GroupCommit[_Recording, StoredResponse] = GroupCommit(
            self._record_all,
            weight=lambda recording: len(recording.events),
            most=MOST_EVENTS,
            concerns_all=lambda error: isinstance(error, ServiceUnavailable) or mongo.is_unavailable(error),
        )

    async def record(
        self,
        request: IdempotentRequest,
        events: Sequence[Event],
        labels: Mapping[str, str],
        respond: Callable[[int], StoredResponse],
    ) -> StoredResponse:
        return await self._group.run(_Recording(request, events, labels, respond))

    async def _record_all(self, recordings: Sequence[_Recording]) -> Sequence[StoredResponse]:
        events = _distinct(recordings)
        labels = _common_labels(recordings)
        async with self._shards.acquire() as shard:
            earlier_tries = count()

            async def effect(session: AsyncClientSession) -> Sequence[StoredResponse]:
                # Nearly always all events are new, so only a repeated transaction looks for known ones first.
                new = await self._events.find_unknown(session, events) if next(earlier_tries) else events
                if new:
                    await self._write(session, shard, new, labels)
                return _responses(recordings, {event.key for event in new})

            async def single(session: AsyncClientSession) -> StoredResponse:
                return (await effect(session))[0]

            if len(recordings) > 1:
                stored = await _once(
                    lambda: self._keys.run_together([recording.request for recording in recordings], effect)
                )
            else:
                stored = [await _repeat_on_conflict(lambda: self._keys.run(recordings[0].request, single))]
        # The transaction is committed, and users are never removed.
        self._seen_users.add(_users_of(events))
        return stored

    async def _write(
        self, session: AsyncClientSession, shard: PooledShard, new: Sequence[Event], labels: Mapping[str, str]
    ) -> None:
        users = self._seen_users.missing(_users_of(new))
        new_users = await self._events.add_users(session, users) if users else 0
        await self._events.add(session, new, labels)
        try:
            counts = {**count_events(count_minutes(new, labels)), **count_users(new_users)}
            await self._rollups.add(session, counts, shard.number)
        except OperationFailure as error:
            if error.code == _WRITE_CONFLICT:
                shard.move()
            raise


class _UserCache:
    """The users that were seen last; all of them are in the database."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._users: OrderedDict[UUID, None] = OrderedDict()

    def missing(self, users: Iterable[UUID]) -> set[UUID]:
        return {user for user in users if user not in self._users}

    def add(self, users: Iterable[UUID]) -> None:
        for user in users:
            self._users[user] = None
            self._users.move_to_end(user)
        while len(self._users) > self._capacity:
            self._users.popitem(last=False)


def _users_of(events: Iterable[Event]) -> set[UUID]:
    return {event.user_id for event in events if event.user_id is not None}


def _distinct(recordings: Sequence[_Recording]) -> Sequence[Event]:
    """Return the events of all requests, without those of an earlier request."""
    if len(recordings) == 1:
        return recordings[0].events
    first: dict[bytes, Event] = {}
    for recording in recordings:
        for event in recording.events:
            first.setdefault(event.key, event)
    return list(first.values())


def _common_labels(recordings: Sequence[_Recording]) -> Mapping[str, str]:
    """Return the labels of all requests. Raises `_NotTogether` if a type got one between two of them."""
    labels: dict[str, str] = {}
    for recording in recordings:
        for type_, label in recording.labels.items():
            if labels.setdefault(type_, label) != label:
                raise _NotTogether
    return labels


def _responses(recordings: Sequence[_Recording], new: set[bytes]) -> list[StoredResponse]:
    """Return the responses. An event that several requests have is new for the first one."""
    responses = []
    for recording in recordings:
        keys = {event.key for event in recording.events} & new
        new -= keys
        responses.append(recording.respond(len(keys)))
    return responses


async def _once(work: Callable[[], Awaitable[T]]) -> T:
    """Run the work of several requests. Raises `_NotTogether` if one of them conflicts with another transaction."""
    try:
        return await work()
    except PyMongoError as error:
        if _is_conflict(error):
            raise _NotTogether from error
        raise


async def _repeat_on_conflict(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` again while it conflicts with other transactions. Raises `Contended` after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await work()
        except PyMongoError as error:
            if not _is_conflict(error):
                raise
            if time.monotonic() >= deadline:
                logger.warning("events are not recorded, other transactions came first: {}", type(error).__name__)
                raise Contended from error
        REPEATED.inc()
        await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))


def _is_conflict(error: PyMongoError) -> bool:
    """Whether a transaction conflicted with another one, so that it may succeed when it is repeated."""
    if isinstance(error, BulkWriteError):
        return {item["code"] for item in error.details["writeErrors"]} == {_DUPLICATE_KEY}
    return error.has_error_label("TransientTransactionError")
