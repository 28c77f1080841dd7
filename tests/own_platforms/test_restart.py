"""`make run` again on the same DATA_DIR, with another cipher and another transport, keeps everything that was there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from servicekit.testing.serving import http_client

NOTES = "/api/v1/notes"
ASSETS = "/api/v1/assets"
CONTENT = b"kept over restarts\n" * 1_000
PATIENCE_SECONDS = 60.0

SignUp = Callable[[httpx2.AsyncClient], Awaitable[Any]]

# Three starts of everything.
pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("analytics", "notes", "assets")]


@dataclass(frozen=True, slots=True)
class Belongings:
    """What a user has: a session, a published note, and a file with a link to it."""

    user: Any
    note: dict[str, Any]
    page: str
    asset: dict[str, Any]
    link: str


async def sent(gateway: httpx2.AsyncClient, method: str, path: str, user: Any, **options: Any) -> Any:
    """Send a request that succeeds; return the content of the response."""
    headers = {**user.headers, **options.pop("headers", {})}
    response = await gateway.request(method, path, headers=headers, **options)
    assert response.is_success, response.text
    return response.json() if response.content else None


async def create_belongings(gateway: httpx2.AsyncClient, sign_up: SignUp) -> Belongings:
    """Sign up, and create something in every service."""
    user = await sign_up(gateway)
    named = {"Content-Type": "text/plain", "X-Filename": "kept.txt"}
    asset = await sent(gateway, "POST", ASSETS, user, headers=named, content=CONTENT)
    note = await sent(gateway, "POST", NOTES, user, json={"title": "kept", "attachments": [asset["id"]]})
    page = await sent(gateway, "POST", f"{NOTES}/{note['id']}/publish", user)
    link = await sent(gateway, "POST", f"{ASSETS}/{asset['id']}/link", user)
    return Belongings(user, note, page["url"], asset, link["url"])


async def leave_events_undelivered(
    running: Any, gateway: httpx2.AsyncClient, sign_up: SignUp
) -> tuple[Belongings, Belongings]:
    """Record events that are not delivered yet; return what a user has, and what a deleted user had."""
    await running.platform.stop_process("analytics-1")
    staying, leaving = await create_belongings(gateway, sign_up), await create_belongings(gateway, sign_up)
    await asyncio.gather(*(running.platform.stop_process(name) for name in ("notes-1", "assets-1")))
    await sent(gateway, "DELETE", "/api/v1/users/profile", leaving.user)
    return staying, leaving


async def counted_events(gateway: httpx2.AsyncClient, user: Any) -> list[str]:
    """Return the types of the user's events that analytics has counted, each as often as it was counted."""
    events = await sent(gateway, "GET", "/api/v1/analytics/events", user, params={"limit": 100})
    return sorted(event["type"] for event in events["items"])


async def assert_everything_is_there(gateway: httpx2.AsyncClient, had: Belongings) -> None:
    """Check the session and what it may read, what is public, and what needs a sealed call."""
    assert await sent(gateway, "GET", "/api/v1/users/profile", had.user) == had.user.account
    refreshed = await gateway.post("/api/v1/users/refresh", json={"refresh_token": had.user.tokens["refresh_token"]})
    assert refreshed.status_code == 200, refreshed.text
    assert (await sent(gateway, "GET", f"{NOTES}/{had.note['id']}", had.user))["attachments"] == [had.asset["id"]]
    assert (await gateway.get(had.page)).json()["title"] == "kept"
    assert (await gateway.get(had.link)).content == CONTENT

    await sent(gateway, "POST", NOTES, had.user, json={"title": "new", "attachments": [had.asset["id"]]})
    assert (await sent(gateway, "GET", "/api/v1/analytics/stats", had.user))["user_count"] >= 1


async def assert_every_event_is_delivered(gateway: httpx2.AsyncClient, stayed: Belongings, left: Belongings) -> None:
    expected = ["asset.uploaded", "note.created", "note.created", "user.registered"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(await counted_events(gateway, stayed.user)) < len(expected):
            await asyncio.sleep(0.1)
        for url in (left.page, left.link):
            while (await gateway.get(url)).status_code != 404:
                await asyncio.sleep(0.1)
    assert await counted_events(gateway, stayed.user) == expected


async def test_a_restart_of_the_whole_fleet_with_another_cipher_and_transport_loses_nothing(
    run: Any, sign_up: SignUp, tmp_path: Path
) -> None:
    ciphers = {"fernet", "aes-256-gcm"}
    starts = [("fernet", "aiohttp"), ("aes-256-gcm", "httpx2"), ("fernet", "aiohttp")]
    before: tuple[Belongings, Belongings] | None = None
    for start, (cipher, transport) in enumerate(starts):
        async with (
            run(tmp_path, SERVICE_CIPHER=cipher, DISPATCH_TRANSPORT=transport) as running,
            http_client(running.gateway_url, timeout=30) as gateway,
        ):
            if before is not None:
                await assert_everything_is_there(gateway, before[0])
                await assert_every_event_is_delivered(gateway, *before)
                for name in ciphers:
                    opened = await running.counted("service_sealed_requests_opened_total", cipher=name)
                    assert (opened > 0) == (name == cipher)
                assert await running.counted("service_sealed_requests_refused_total") == 0
            if start + 1 < len(starts):
                before = await leave_events_undelivered(running, gateway, sign_up)
