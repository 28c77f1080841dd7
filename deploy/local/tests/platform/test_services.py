"""When a service counts as ready."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from local_platform.platform.services import readiness
from local_platform.supervision.probes import NotReady, http_get, wait_until_ready

Answer = Callable[[int, object], None]


@pytest.fixture
async def answering() -> AsyncIterator[tuple[str, Answer]]:
    """Return the URL of a server, and a setter of what it answers."""
    answer = b""

    def set_answer(status: int, body: object) -> None:
        nonlocal answer
        answer = f"HTTP/1.0 {status} X\r\nContent-Type: application/json\r\n\r\n{json.dumps(body)}".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ready", set_answer


async def test_a_service_is_ready_when_it_says_so(answering):
    url, answer = answering
    answer(200, {"status": "ready"})
    assert await readiness(url)() == ""
    answer(200, {"status": "degraded"})
    assert await readiness(url)() == "without Valkey"


async def test_a_nearly_full_disk_or_memory_is_a_warning_not_a_platform_that_never_becomes_ready(answering):
    url, answer = answering
    answer(503, {"reasons": ["disk is 97 % used", "memory is 96 % used"]})
    assert await readiness(url)() == "warning: disk is 97 % used, memory is 96 % used"


@pytest.mark.parametrize(
    "body",
    [{"reasons": ["mongo does not answer"]}, {"reasons": ["disk is 97 % used", "mongo does not answer"]}, {}, []],
)
async def test_a_service_without_its_store_is_not_ready(answering, body):
    url, answer = answering
    answer(503, body)
    with pytest.raises(NotReady):
        await readiness(url)()


async def test_a_port_where_nobody_listens_is_not_ready(ports):
    with pytest.raises(NotReady, match="does not answer"):
        await http_get(f"http://127.0.0.1:{ports.allocate('nobody')}/ready")


async def test_waiting_ends_with_the_last_reason():
    async def probe() -> str:
        raise NotReady("the store is away")

    with pytest.raises(NotReady, match=r"not ready after 0 s: the store is away"):
        await wait_until_ready(probe, 0.05)
