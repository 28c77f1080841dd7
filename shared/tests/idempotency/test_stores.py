"""One contract for both stores: a request has one effect for each key, whatever happens around it.

The effect is a row, or a document, in `effects`.
"""

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from servicekit.idempotency import IdempotentRequest, KeyInUse, KeyReused, StoredResponse
from servicekit.testing.stages import STAGE_REACHED, program
from servicekit.testing.store_harness import Effect, MongoHarness, PostgresHarness, StoreHarness

PATIENCE_SECONDS = 60.0
ROUTE = "/api/v1/things"

# A process that runs a request and stops for good between the effect and the commit.
_STOP_AFTER_EFFECT = """
import asyncio, sys
from servicekit.idempotency import IdempotentRequest
from servicekit.testing.stages import stop_here
from servicekit.testing.store_harness import harness_of

async def main(kind, url, route):
    store = harness_of(kind, url)

    async def effect(tx):
        await store.add_effect(tx)
        await stop_here()

    request = IdempotentRequest.of(method="POST", route=route, caller="ann", key="k-1", fingerprint=b"body".ljust(32))
    await store.replicas[0].run(request, effect)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def store(real_store: StoreHarness) -> StoreHarness:
    return real_store


@pytest.fixture
async def postgres_store(store_harnesses: dict[str, Any]) -> PostgresHarness:
    store: PostgresHarness = store_harnesses["postgres"]
    await store.clear()
    return store


@pytest.fixture
async def mongo_store(store_harnesses: dict[str, Any]) -> MongoHarness:
    store: MongoHarness = store_harnesses["mongo"]
    await store.clear()
    return store


def request(key: str | None = "k-1", *, body: bytes = b"body") -> IdempotentRequest:
    return IdempotentRequest.of(method="POST", route=ROUTE, caller="ann", key=key, fingerprint=body.ljust(32))


def creating(store: StoreHarness, *, number: int = 1) -> Effect:
    async def effect(tx: Any) -> StoredResponse:
        await store.add_effect(tx)
        return StoredResponse.json({"number": number}, headers={"Location": f"/things/{number}"})

    return effect


async def run_when_free(store: StoreHarness, *, replica: int = 0, number: int = 1) -> StoredResponse:
    """Run the request as a client does that is told to try again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await store.replicas[replica].run(request(), creating(store, number=number))
            except KeyInUse:
                await asyncio.sleep(0.02)


async def test_concurrent_requests_at_two_replicas_have_one_effect_and_one_response(store: StoreHarness) -> None:
    responses = await asyncio.gather(*(run_when_free(store, replica=number % 2, number=number) for number in range(40)))

    assert await store.count_effects() == 1
    assert [response.replayed for response in responses].count(False) == 1
    assert len({(response.status, response.body, response.headers) for response in responses}) == 1


async def test_a_repetition_while_the_first_request_is_in_progress_is_told_to_try_again(
    store: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.idempotency.mongo.ORPHANED_SECONDS", 0)
    in_effect, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Any) -> StoredResponse:
        await store.add_effect(tx)
        in_effect.set()
        await go_on.wait()
        return StoredResponse.json({"number": 1})

    first = asyncio.create_task(store.replicas[0].run(request(), slow))
    await in_effect.wait()
    for replica in store.replicas:
        with pytest.raises(KeyInUse) as refusal:
            await replica.run(request(), creating(store))
        assert refusal.value.headers == {"Retry-After": "1"}
    go_on.set()

    assert not (await first).replayed
    assert (await store.replicas[1].run(request(), creating(store))).replayed
    assert await store.count_effects() == 1


async def test_a_repetition_gets_the_same_status_headers_and_body(store: StoreHarness) -> None:
    first = await store.replicas[0].run(request(), creating(store))
    again = await store.replicas[1].run(request(), creating(store, number=2))

    assert (again.status, again.headers, again.body) == (first.status, first.headers, first.body)
    assert again == await store.replicas[1].find_stored(request())
    assert (first.replayed, again.replayed) == (False, True)


async def test_replays_and_conflicts_are_counted_by_route(store: StoreHarness) -> None:
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"service_idempotency_{name}_total", {"route": ROUTE, **labels}) or 0

    replays, conflicts = counted("replays"), counted("conflicts", reason="other_request")
    await store.replicas[0].run(request(), creating(store))
    await store.replicas[0].run(request(), creating(store))
    with pytest.raises(KeyReused):
        await store.replicas[0].run(request(body=b"other"), creating(store))
    assert counted("replays") == replays + 1
    assert counted("conflicts", reason="other_request") == conflicts + 1


async def test_the_key_of_another_body_is_refused(store: StoreHarness) -> None:
    await store.replicas[0].run(request(), creating(store))
    with pytest.raises(KeyReused):
        await store.replicas[1].run(request(body=b"other"), creating(store))
    with pytest.raises(KeyReused):
        await store.replicas[1].find_stored(request(body=b"other"))
    assert await store.count_effects() == 1


async def test_another_key_has_an_effect_of_its_own(store: StoreHarness) -> None:
    await store.replicas[0].run(request("k-1"), creating(store))
    assert await store.replicas[0].find_stored(request("k-2")) is None
    assert not (await store.replicas[0].run(request("k-2"), creating(store))).replayed
    assert await store.count_effects() == 2


async def test_without_a_key_every_request_has_its_effect(store: StoreHarness) -> None:
    for _ in range(2):
        assert not (await store.replicas[0].run(request(None), creating(store))).replayed
    assert await store.replicas[0].find_stored(request(None)) is None
    assert await store.count_effects() == 2


@pytest.mark.parametrize("key", ["k-1", None])
async def test_an_effect_that_fails_is_undone_and_releases_the_key(store: StoreHarness, key: str | None) -> None:
    async def fail(tx: Any) -> StoredResponse:
        await store.add_effect(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await store.replicas[0].run(request(key), fail)
    assert await store.count_effects() == 0
    assert not (await store.replicas[1].run(request(key), creating(store))).replayed
    assert await store.count_effects() == 1


async def test_a_cancelled_request_is_undone_and_releases_the_key(store: StoreHarness) -> None:
    in_effect = asyncio.Event()

    async def hang(tx: Any) -> StoredResponse:
        await store.add_effect(tx)
        in_effect.set()
        await asyncio.Event().wait()
        raise AssertionError

    first = asyncio.create_task(store.replicas[0].run(request(), hang))
    await in_effect.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not (await store.replicas[1].run(request(), creating(store))).replayed
    assert await store.count_effects() == 1


async def test_a_response_that_is_no_success_is_not_stored(store: StoreHarness) -> None:
    async def refuse(tx: Any) -> StoredResponse:
        return StoredResponse.json({}, status=404)

    assert (await store.replicas[0].run(request(), refuse)).status == 404
    assert (await store.replicas[0].run(request(), creating(store))).status == 201


async def test_an_expired_key_is_a_new_one(store: StoreHarness) -> None:
    await store.replicas[0].run(request(), creating(store))
    await store.expire_responses()
    assert await store.replicas[0].find_stored(request()) is None
    assert not (await store.replicas[1].run(request(body=b"other"), creating(store))).replayed
    assert (await store.replicas[0].run(request(body=b"other"), creating(store))).replayed
    assert await store.count_effects() == 2


async def test_a_transaction_that_the_server_ends_has_no_effect_and_releases_the_key(store: StoreHarness) -> None:
    runs = 0

    async def broken_once(tx: Any) -> StoredResponse:
        nonlocal runs
        runs += 1
        await store.add_effect(tx)
        if runs == 1:
            await store.break_transaction(tx)
        await store.add_effect(tx)
        return StoredResponse.json({})

    if store.kind == "postgres":
        with pytest.raises(DBAPIError):
            await store.replicas[0].run(request(), broken_once)
        assert await store.count_effects() == 0
        await store.replicas[1].run(request(), broken_once)
    else:
        # A transient error: the whole transaction runs again.
        await store.replicas[0].run(request(), broken_once)
    assert runs == 2
    assert await store.count_effects() == 2
    assert (await store.replicas[1].run(request(), broken_once)).replayed


async def test_a_process_killed_between_effect_and_commit_leaves_neither_effect_nor_claim(
    store: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.idempotency.mongo.ORPHANED_SECONDS", 0)
    async with program(_STOP_AFTER_EFFECT, store.kind, store.url, ROUTE) as process:
        await process.until(STAGE_REACHED)
        with pytest.raises(KeyInUse):
            await store.replicas[0].run(request(), creating(store))

    assert not (await run_when_free(store)).replayed
    assert await store.count_effects() == 1


async def test_on_mongo_a_repetition_outlasts_the_claim_of_a_process_that_died(mongo_store: MongoHarness) -> None:
    """The gateway repeats the request of a replica that died once, at once, and passes the response to the client."""
    async with program(_STOP_AFTER_EFFECT, mongo_store.kind, mongo_store.url, ROUTE) as process:
        await process.until(STAGE_REACHED)

    response = await mongo_store.replicas[0].run(request(), creating(mongo_store))

    assert not response.replayed
    assert await mongo_store.count_effects() == 1


async def test_postgres_deletes_expired_responses_after_a_later_request(
    postgres_store: PostgresHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.idempotency.postgres.CLEAN_SECONDS", 0)
    for key in ("a", "b"):
        await postgres_store.replicas[0].run(request(key), creating(postgres_store))
    await postgres_store.expire_responses()
    await postgres_store.replicas[0].run(request("c"), creating(postgres_store))
    async with postgres_store.transaction() as tx:
        assert await tx.scalar(text("SELECT count(*) FROM idempotency_keys")) == 1


async def test_mongo_gives_up_after_five_transient_errors(mongo_store: MongoHarness) -> None:
    runs = 0

    async def conflict(tx: Any) -> StoredResponse:
        nonlocal runs
        runs += 1
        error = OperationFailure("conflict", code=112)
        error._add_error_label("TransientTransactionError")
        raise error

    with pytest.raises(OperationFailure):
        await mongo_store.replicas[0].run(request(), conflict)
    assert runs == 5
    assert not (await mongo_store.replicas[1].run(request(), creating(mongo_store))).replayed


async def test_mongo_repeats_a_transaction_that_exceeded_its_lifetime_in_an_operation(
    mongo_store: MongoHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends it after `transactionLifetimeLimitSeconds`, and does not say that it may run again."""
    monkeypatch.setattr("servicekit.storage.mongo_transactions.RETRY_SECONDS", PATIENCE_SECONDS)
    runs = 0

    async def slow_at_first(tx: Any) -> StoredResponse:
        nonlocal runs
        runs += 1
        await mongo_store.add_effect(tx)
        if runs == 1:
            effects = mongo_store.database["effects"]
            await effects.find_one({"$where": "sleep(60000) || true"}, session=tx)
        return StoredResponse.json({})

    await mongo_store.replicas[0].run(request(), slow_at_first)

    assert (runs, await mongo_store.count_effects()) == (2, 1)


async def test_mongo_repeats_a_transaction_that_exceeded_its_lifetime_in_the_commit(
    mongo_store: MongoHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted commit is sent once more, because only the server knows its outcome."""
    monkeypatch.setattr("servicekit.storage.mongo_transactions.RETRY_SECONDS", PATIENCE_SECONDS)
    commit, interrupted = AsyncClientSession.commit_transaction, 0

    async def commit_on_a_busy_server(session: AsyncClientSession) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted += 1
            await session.client.admin.command("killSessions", [session.session_id])
            raise OperationFailure("interrupted", code=290)
        await commit(session)

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", commit_on_a_busy_server)
    response = await mongo_store.replicas[0].run(request(), creating(mongo_store))

    assert (response.status, interrupted, await mongo_store.count_effects()) == (201, 1, 1)
