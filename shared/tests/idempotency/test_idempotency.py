"""One contract for both stores: an effect happens once per key, whatever happens around it.

Two engines (or clients) stand for two replicas. The effect of each test is a row (or a document) in `effects`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from servicekit.idempotency import IdempotentRequest, KeyInUse, KeyReused, StoredResponse
from servicekit.testing.store_harness import ROUTE, Effect, MongoWorld, PostgresWorld, World, attempt

PATIENCE_SECONDS = 60.0


@pytest.fixture(params=["postgres", "mongo"])
async def world(request: pytest.FixtureRequest, postgres_url: str, mongo_url: str) -> AsyncIterator[World]:
    world = PostgresWorld(postgres_url) if request.param == "postgres" else MongoWorld(mongo_url)
    await world.open()
    yield world
    await world.close()


def created(world: World, *, number: int = 1) -> Effect:
    async def effect(tx: Any) -> StoredResponse:
        await world.add(tx)
        return StoredResponse.json({"number": number}, headers={"Location": f"/things/{number}"})

    return effect


async def test_concurrent_attempts_over_two_replicas_have_one_effect_and_one_answer(world: World) -> None:
    async def client(number: int) -> StoredResponse:
        while True:
            try:
                return await world.replicas[number % 2].run(attempt(), created(world, number=number))
            except KeyInUse:
                await asyncio.sleep(0.02)

    answers = await asyncio.gather(*(client(number) for number in range(40)))

    assert await world.effects() == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert len({(answer.status, answer.body, answer.headers) for answer in answers}) == 1


async def test_an_attempt_during_the_first_one_is_told_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.idempotency.mongo.ORPHANED_SECONDS", 0)
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Any) -> StoredResponse:
        await world.add(tx)
        inside.set()
        await go_on.wait()
        return StoredResponse.json({"number": 1})

    first = asyncio.create_task(world.replicas[0].run(attempt(), slow))
    await inside.wait()
    for replica in world.replicas:
        with pytest.raises(KeyInUse) as refusal:
            await replica.run(attempt(), created(world))
        assert refusal.value.headers == {"Retry-After": "1"}
    go_on.set()

    assert not (await first).replayed
    assert (await world.replicas[1].run(attempt(), created(world))).replayed
    assert await world.effects() == 1


async def test_a_repetition_gets_the_same_status_headers_and_body(world: World) -> None:
    first = await world.replicas[0].run(attempt(), created(world))
    again = await world.replicas[1].run(attempt(), created(world, number=2))
    peeked = await world.replicas[1].find_stored(attempt())

    assert (again.status, again.headers, again.body) == (first.status, first.headers, first.body)
    assert again == peeked
    response = again.to_response()
    assert response.headers["Idempotency-Replayed"] == "true"
    assert response.headers["Location"] == "/things/1"
    assert "Idempotency-Replayed" not in first.to_response().headers


async def test_replays_and_conflicts_are_counted_by_route(world: World) -> None:
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"service_idempotency_{name}_total", {"route": ROUTE, **labels}) or 0

    replays, conflicts = counted("replays"), counted("conflicts", reason="other_request")
    await world.replicas[0].run(attempt(), created(world))
    await world.replicas[0].run(attempt(), created(world))
    with pytest.raises(KeyReused):
        await world.replicas[0].run(attempt(body=b"other"), created(world))
    assert counted("replays") == replays + 1
    assert counted("conflicts", reason="other_request") == conflicts + 1


async def test_another_body_under_the_key_is_refused(world: World) -> None:
    await world.replicas[0].run(attempt(), created(world))
    with pytest.raises(KeyReused):
        await world.replicas[1].run(attempt(body=b"other"), created(world))
    with pytest.raises(KeyReused):
        await world.replicas[1].find_stored(attempt(body=b"other"))
    assert await world.effects() == 1


@pytest.mark.parametrize(
    "other",
    [
        attempt("k-2"),
        attempt(caller="bob"),
        attempt(caller=None),
        IdempotentRequest.of(method="PUT", route=ROUTE, caller="ann", key="k-1", fingerprint=b"f" * 32),
        IdempotentRequest.of(method="POST", route="/api/v1/others", caller="ann", key="k-1", fingerprint=b"f" * 32),
    ],
    ids=["key", "caller", "anonymous", "method", "route"],
)
async def test_a_key_stands_for_one_caller_method_and_route(world: World, other: IdempotentRequest) -> None:
    await world.replicas[0].run(attempt(), created(world))
    assert await world.replicas[0].find_stored(other) is None
    assert not (await world.replicas[0].run(other, created(world))).replayed
    assert await world.effects() == 2


async def test_without_a_key_every_request_has_its_effect(world: World) -> None:
    for _ in range(2):
        assert not (await world.replicas[0].run(attempt(None), created(world))).replayed
    assert await world.replicas[0].find_stored(attempt(None)) is None
    assert await world.effects() == 2


@pytest.mark.parametrize("key", ["k-1", None])
async def test_an_effect_that_fails_is_undone_and_frees_the_key(world: World, key: str | None) -> None:
    async def fail(tx: Any) -> StoredResponse:
        await world.add(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await world.replicas[0].run(attempt(key), fail)
    assert await world.effects() == 0
    assert not (await world.replicas[1].run(attempt(key), created(world))).replayed
    assert await world.effects() == 1


async def test_a_cancelled_attempt_is_undone_and_frees_the_key(world: World) -> None:
    inside = asyncio.Event()

    async def hang(tx: Any) -> StoredResponse:
        await world.add(tx)
        inside.set()
        await asyncio.Event().wait()
        raise AssertionError

    first = asyncio.create_task(world.replicas[0].run(attempt(), hang))
    await inside.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not (await world.replicas[1].run(attempt(), created(world))).replayed
    assert await world.effects() == 1


async def test_an_answer_that_is_no_success_is_not_stored(world: World) -> None:
    async def refuse(tx: Any) -> StoredResponse:
        return StoredResponse.json({}, status=404)

    assert (await world.replicas[0].run(attempt(), refuse)).status == 404
    assert (await world.replicas[0].run(attempt(), created(world))).status == 201


async def test_an_expired_key_is_a_new_one(world: World) -> None:
    await world.replicas[0].run(attempt(), created(world))
    await world.expire()
    assert await world.replicas[0].find_stored(attempt()) is None
    assert not (await world.replicas[1].run(attempt(body=b"other"), created(world))).replayed
    assert (await world.replicas[0].run(attempt(body=b"other"), created(world))).replayed
    assert await world.effects() == 2


async def test_a_transaction_broken_by_the_server_has_no_effect_and_frees_the_key(world: World) -> None:
    runs = 0

    async def broken_once(tx: Any) -> StoredResponse:
        nonlocal runs
        runs += 1
        await world.add(tx)
        if runs == 1:
            await world.break_transaction(tx)
        await world.add(tx)
        return StoredResponse.json({})

    if world.kind == "postgres":
        with pytest.raises(DBAPIError):
            await world.replicas[0].run(attempt(), broken_once)
        assert await world.effects() == 0
        await world.replicas[1].run(attempt(), broken_once)
    else:
        # A transient error: the whole transaction runs again.
        await world.replicas[0].run(attempt(), broken_once)
    assert runs == 2
    assert await world.effects() == 2
    assert (await world.replicas[1].run(attempt(), broken_once)).replayed


async def process_inside(world: World) -> asyncio.subprocess.Process:
    """Start a process that has begun an attempt and hangs between the effect and the commit."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "servicekit.testing.store_harness", world.kind, world.url),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"inside\n"
    return process


async def test_a_process_killed_between_effect_and_commit_leaves_neither_effect_nor_claim(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.idempotency.mongo.ORPHANED_SECONDS", 0)
    process = await process_inside(world)
    with pytest.raises(KeyInUse):
        await world.replicas[0].run(attempt(), created(world))

    os.kill(process.pid, signal.SIGKILL)
    await process.wait()

    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                answer = await world.replicas[0].run(attempt(), created(world))
                break
            except KeyInUse:
                await asyncio.sleep(0.1)
    assert not answer.replayed
    assert await world.effects() == 1


async def test_on_mongo_a_repetition_outlasts_the_claim_of_a_process_that_died(mongo_url: str) -> None:
    """The gateway repeats a request whose replica died once, at once, and hands its answer to the client."""
    world = MongoWorld(mongo_url)
    await world.open()
    process = await process_inside(world)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()

    answer = await world.replicas[0].run(attempt(), created(world))

    assert not answer.replayed
    assert await world.effects() == 1
    await world.close()


async def test_postgres_deletes_expired_answers_after_a_later_request(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.idempotency.postgres.CLEAN_SECONDS", 0)
    world = PostgresWorld(postgres_url)
    await world.open()
    for key in ("a", "b"):
        await world.replicas[0].run(attempt(key), created(world))
    await world.expire()
    await world.replicas[0].run(attempt("c"), created(world))
    async with world.engines[0].connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM idempotency_keys")) == 1
    await world.close()


async def test_mongo_gives_up_on_an_error_that_no_retry_mends(mongo_url: str) -> None:
    world = MongoWorld(mongo_url)
    await world.open()
    runs = 0

    async def conflict(tx: Any) -> StoredResponse:
        nonlocal runs
        runs += 1
        error = OperationFailure("conflict", code=112)
        error._add_error_label("TransientTransactionError")
        raise error

    with pytest.raises(OperationFailure):
        await world.replicas[0].run(attempt(), conflict)
    assert runs == 5
    assert not (await world.replicas[1].run(attempt(), created(world))).replayed
    await world.close()


async def test_mongo_runs_a_transaction_again_that_outlived_its_time_in_an_operation(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends it after `transactionLifetimeLimitSeconds`, and says nowhere that it may run again."""
    monkeypatch.setattr("servicekit.idempotency.mongo.RETRY_SECONDS", PATIENCE_SECONDS)
    world = MongoWorld(mongo_url)
    await world.open()
    runs = 0

    async def slow_at_first(tx: Any) -> StoredResponse:
        nonlocal runs
        runs += 1
        await world.add(tx)
        if runs == 1:
            effects = world.databases[0]["effects"]
            await effects.find_one({"$where": "sleep(60000) || true"}, session=tx)
        return StoredResponse.json({})

    await world.replicas[0].run(attempt(), slow_at_first)

    assert (runs, await world.effects()) == (2, 1)
    await world.close()


async def test_mongo_runs_a_transaction_again_that_outlived_its_time_in_the_commit(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted commit is sent once more, also when the time is up, because only the server knows what it did."""
    world = MongoWorld(mongo_url)
    await world.open()
    commit, interrupted = AsyncClientSession.commit_transaction, 0

    async def commit_on_a_busy_server(session: AsyncClientSession) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted += 1
            await session.client.admin.command("killSessions", [session.session_id])
            raise OperationFailure("interrupted", code=290)
        await commit(session)

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", commit_on_a_busy_server)
    answer = await world.replicas[0].run(attempt(), created(world))

    assert (answer.status, interrupted, await world.effects()) == (201, 1, 1)
    await world.close()
