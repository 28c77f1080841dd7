"""The files of a published note are read without a token, as long as the notes service says so."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI

from assets_service import peers as peers_module
from servicekit.core.errors import ServiceUnavailable
from servicekit.sealing.route_policy import install_policies, sealed
from servicekit.testing.harness import PeerServices
from servicekit.testing.serving import listening

API = "/api/v1/assets"


class Notes:
    """The notes service, as far as this service calls it."""

    def __init__(self, app: FastAPI) -> None:
        self.published: set[tuple[str, str]] = set()
        self.available = True
        app.post("/internal/published", dependencies=[sealed("assets")])(self._find)

    async def _find(self, query: dict[str, str]) -> dict[str, bool]:
        if not self.available:
            raise ServiceUnavailable
        return {"published": (query["slug"], query["asset_id"]) in self.published}


@pytest.fixture
async def published(
    deployment: Any, peers: PeerServices, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Any, Notes]]:
    """A replica that asks a notes service of this test each time."""
    monkeypatch.setattr(peers_module, "PUBLISHED_SECONDS", 0.0)
    app = peers.sealed_app("notes")
    notes = Notes(app)
    install_policies(app)
    async with (
        listening(app) as url,
        deployment.replica(peer_urls={**deployment.settings.peer_urls, "notes": [url]}) as replica,
    ):
        yield replica, notes


async def test_anyone_reads_the_file_of_a_published_note_until_it_is_withdrawn(published: Any, user: UUID) -> None:
    replica, notes = published
    asset, other = await replica.stored(user, b"content"), await replica.stored(user)
    notes.published.add(("slug", asset["id"]))

    async def read(asset_id: str, slug: str = "slug", **headers: str) -> Any:
        return await replica.http.get(f"{API}/{asset_id}/content", params={"note": slug}, headers=headers)

    response = await read(asset["id"])
    assert (response.status_code, response.content) == (200, b"content")
    assert response.headers["cache-control"] == "private, no-cache"
    assert (await read(asset["id"], Range="bytes=0-2")).content == b"con"
    assert (await read(asset["id"], Authorization="Bearer a.b.c")).status_code == 200
    assert (await read(other["id"])).status_code == 404
    assert (await read(asset["id"], "another")).status_code == 404
    assert (await read(str(uuid4()))).status_code == 404

    notes.published.clear()
    assert (await read(asset["id"])).status_code == 404
    # A published note does not show its owner more than it shows others.
    assert (await read(asset["id"], **replica.headers(user))).status_code == 404


async def test_without_the_notes_service_other_ways_to_a_file_still_work(published: Any, user: UUID) -> None:
    replica, notes = published
    asset = await replica.stored(user, b"content")
    notes.available = False

    assert (await replica.http.get(f"{API}/{asset['id']}/content", params={"note": "slug"})).status_code == 503
    assert (await replica.content(user, asset["id"])).content == b"content"
