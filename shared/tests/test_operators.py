"""What the console asks of every service: open to the console alone, by sealed calls."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.routing import Route

from servicekit.operators import MAX_DEAD_LETTERS, operators_router
from servicekit.outbox import DomainEvent, Origin
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.route_policy import install_policies
from servicekit.testing.memory_outbox import MemoryOutboxStore
from servicekit.testing.sealed import SealedPeer, make_keyrings
from servicekit.testing.serving import sealed_app
from servicekit.web.error_handlers import add_error_handlers

ERROR = "status 422: Some fields are invalid."


@pytest.fixture
def rings(tmp_path: Path) -> dict[str, Keyring]:
    return make_keyrings(tmp_path, {"console": ["notes"], "user": ["notes"]})


@pytest.fixture
def store() -> MemoryOutboxStore:
    return MemoryOutboxStore()


MakePeer = Callable[..., SealedPeer]


@pytest.fixture
async def make_peer(rings: dict[str, Keyring]) -> AsyncIterator[MakePeer]:
    """Return what starts the service with an outbox and makes a client that calls it as another service."""
    async with AsyncExitStack() as stack:

        def make(outbox: MemoryOutboxStore | None, caller: str = "console") -> SealedPeer:
            app = sealed_app("notes", rings["notes"])
            app.include_router(operators_router(outbox=outbox, summary=_summary))
            add_error_handlers(app)
            install_policies(app)
            http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://notes")
            stack.push_async_callback(http.aclose)
            assert not [path for path in app.openapi()["paths"] if path.startswith("/internal")]
            return SealedPeer(http, caller, "notes", rings[caller])

        yield make


async def _summary() -> Mapping[str, int]:
    return {"notes": 12, "published": 1}


async def _die(store: MemoryOutboxStore, count: int) -> list[DomainEvent]:
    """Record events whose delivery is given up, and one that waits."""
    subjects = [str(number) for number in range(count)]
    events = [DomainEvent(type="note.made", subject=name, payload={"secret": "hunter2"}) for name in subjects]
    async with store.transaction() as tx:
        await store.record_all(tx, [(event, ["analytics"], Origin()) for event in events])
    for leased in await store.lease_first("analytics", ["note.made"], subjects, limit=count, seconds=60):
        await store.dead_letter(leased, ERROR)
    async with store.transaction() as tx:
        await store.record_all(tx, [(DomainEvent(type="note.made", subject="waits"), ["analytics"], Origin())])
    return events


async def test_the_outbox_shows_what_waits_and_what_is_dead_without_payloads(
    make_peer: MakePeer, store: MemoryOutboxStore
) -> None:
    events = await _die(store, 2)
    response = await make_peer(store).call("GET", "/internal/outbox")

    (destination,) = response.json()["destinations"]
    assert destination.pop("oldest_seconds") >= 0
    assert destination == {"destination": "analytics", "waiting": 1}
    assert response.json()["dead_letters"] == [
        {
            "id": str(event.id),
            "destination": "analytics",
            "type": "note.made",
            "occurred_at": event.occurred_at.isoformat(),
            "attempts": 1,
            "error": ERROR,
        }
        for event in reversed(events)
    ]


async def test_the_newest_dead_letters_are_shown(make_peer: MakePeer, store: MemoryOutboxStore) -> None:
    events = await _die(store, MAX_DEAD_LETTERS + 1)
    shown = (await make_peer(store).call("GET", "/internal/outbox")).json()["dead_letters"]

    assert [each["id"] for each in shown] == [str(event.id) for event in events[:0:-1]]


async def test_one_dead_letter_or_all_are_retried(make_peer: MakePeer, store: MemoryOutboxStore) -> None:
    events = await _die(store, 3)
    console = make_peer(store)

    async def retry(ids: Any) -> Any:
        return (await console.call("POST", "/internal/outbox/retry", json={"ids": ids})).json()

    assert await retry([str(events[1].id)]) == {"retried": 1}
    assert await retry([str(events[1].id)]) == {"retried": 0}
    assert await retry([]) == {"retried": 0}
    assert [dead.id for dead in await store.dead_letters()] == [events[0].id, events[2].id]
    assert await retry(None) == {"retried": 2}


async def test_which_dead_letters_to_retry_must_be_said(make_peer: MakePeer, store: MemoryOutboxStore) -> None:
    await _die(store, 1)
    response = await make_peer(store).call("POST", "/internal/outbox/retry", json={})

    assert response.status == 422
    assert len(await store.dead_letters()) == 1


async def test_a_service_without_an_outbox_has_nothing_in_it(make_peer: MakePeer) -> None:
    console = make_peer(None)

    assert (await console.call("GET", "/internal/outbox")).json() == {"destinations": [], "dead_letters": []}
    assert (await console.call("POST", "/internal/outbox/retry", json={"ids": None})).json() == {"retried": 0}


async def test_the_summary_has_the_counts_of_the_service(make_peer: MakePeer) -> None:
    response = await make_peer(None).call("GET", "/internal/summary")

    assert response.json() == {"counts": [{"name": "notes", "value": 12}, {"name": "published", "value": 1}]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, route.path)
        for route in operators_router(outbox=None, summary=_summary).routes
        if isinstance(route, Route)
        for method in route.methods or ()
    ],
)
async def test_nobody_but_the_console_may_ask(make_peer: MakePeer, method: str, path: str) -> None:
    body = {"ids": None} if method == "POST" else None
    plain = make_peer(None)
    assert (await plain._http.request(method, path, json=body)).status_code == 401
    assert (await make_peer(None, "user").call(method, path, json=body)).status == 403
    assert (await make_peer(None).call(method, path, json=body)).status == 200
