"""Whether a service counts as ready."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from local_platform.platform.services import readiness
from local_platform.supervision.probes import NotReady, http_get, wait_until_ready

SetResponse = Callable[[int, object], None]


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, SetResponse]]:
    """Return the URL of a server, and a function that sets its response."""
    response = b""

    def respond(status: int, body: object) -> None:
        nonlocal response
        response = f"HTTP/1.0 {status} X\r\nContent-Type: application/json\r\n\r\n{json.dumps(body)}".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/ready", respond


async def test_a_service_is_ready_when_it_reports_so(server):
    url, respond = server
    respond(200, {"status": "ready"})
    assert await readiness(url)() == ""
    respond(200, {"status": "degraded", "reasons": ["postgres is read-only", "valkey does not answer"]})
    assert await readiness(url)() == "postgres is read-only, valkey does not answer"


async def test_a_nearly_full_disk_or_memory_is_a_warning_and_does_not_block_readiness(server):
    url, respond = server
    respond(503, {"reasons": ["disk is 97 % used", "memory is 96 % used"]})
    assert await readiness(url)() == "warning: disk is 97 % used, memory is 96 % used"


@pytest.mark.parametrize(
    "body",
    [{"reasons": ["mongo does not respond"]}, {"reasons": ["disk is 97 % used", "mongo does not respond"]}, {}, []],
)
async def test_a_service_without_its_store_is_not_ready(server, body):
    url, respond = server
    respond(503, body)
    with pytest.raises(NotReady):
        await readiness(url)()


async def test_a_port_without_a_listener_is_not_ready(ports):
    with pytest.raises(NotReady, match="does not respond"):
        await http_get(f"http://127.0.0.1:{ports.allocate('unused')}/ready")


async def test_waiting_ends_with_the_last_reason():
    async def probe() -> str:
        raise NotReady("the store is unavailable")

    with pytest.raises(NotReady, match=r"not ready after 0 s: the store is unavailable"):
        await wait_until_ready(probe, 0.05)
