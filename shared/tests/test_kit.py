"""What the kit composes."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from servicekit.dispatcher import CircuitOpen, DispatchError
from servicekit.kit import ServiceKit
from servicekit.settings import ServiceSettings
from servicekit.testing.tokens import TestIssuer
from servicekit.tokens import CurrentUser

router = APIRouter(prefix="/api/v1/parcels")


@router.get("/mine")
async def mine(user: CurrentUser) -> str:
    return str(user.id)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield


async def test_keys_are_fetched_although_the_circuit_of_the_user_service_is_open(tmp_path: Path) -> None:
    """As after a start before the user service: it is there at last, and tokens are verified at once."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    kit = ServiceKit(
        ServiceSettings(
            service_name="parcels",
            valkey_url=SecretStr("redis://127.0.0.1:1/0"),
            service_keys_dir=tmp_path,
            fingerprint_secret=SecretStr("f" * 32),
            peer_urls={"user": [f"http://127.0.0.1:{port}"]},
            user_rate=0,
        )
    )
    app = kit.build(title="Parcels", lifespan=lifespan, routers=[router], checks={}, unavailable=[])
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
