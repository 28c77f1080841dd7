"""What the kit composes."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from fastapi import APIRouter

from servicekit.auth.access_tokens import CurrentUser
from servicekit.dispatcher import CircuitOpen, DispatchError
from servicekit.kit import ServiceKit
from servicekit.testing.serving import nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.testing.tokens import TestIssuer

router = APIRouter(prefix="/api/v1/parcels")


@router.get("/mine")
async def mine(user: CurrentUser) -> str:
    return str(user.id)


async def test_keys_are_fetched_although_the_circuit_of_the_user_service_is_open(
    tmp_path: Path, new_port: Callable[[], int]
) -> None:
    """As after a start before the user service: it is there at last, and tokens are verified at once."""
    port = new_port()
    peers = {"user": [f"http://127.0.0.1:{port}"]}
    kit = ServiceKit(unconnected_settings("parcels", service_keys_dir=tmp_path, peer_urls=peers, user_rate=0))
    app = kit.build(
        title="Parcels", lifespan=nothing_to_do, routers=[router], checks={}, is_unavailable=lambda _: False
    )
    issuer = TestIssuer()
    async with (
        kit.dispatcher,
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://parcels", headers=issuer.headers(uuid4())
        ) as client,
    ):
        for _ in range(10):
            with pytest.raises(DispatchError):
                await kit.dispatcher.call("user", "/", method="POST")
        with pytest.raises(CircuitOpen):
            await kit.dispatcher.call("user", "/")

        async with issuer.publishing(port=port):
            assert (await client.get("/api/v1/parcels/mine")).status_code == 200
