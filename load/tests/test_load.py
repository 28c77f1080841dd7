"""The load counts every failed request, and sends no request twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from production.load import Load, create_note, list_notes, settle_note
from production.wire import RateLimited, one_connection

Responses = Callable[[int], bytes | None]


def response_of(status: int, body: str = '{"id": "1", "detail": "so"}') -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Server:
    """Sends the nth response that `responses` returns; None breaks the connection instead."""

    def __init__(self, responses: Responses) -> None:
        self._responses = responses
        self.url = ""
        self.seen: list[str] = []
        self.keys: list[str] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(field.lower().split(": ", 1) for field in head.decode().splitlines()[1:] if field)
                await reader.readexactly(int(fields.get("content-length", "0")))
                self.seen.append(head.decode().split(" ")[0])
                self.keys.append(fields.get("idempotency-key", ""))
                content = self._responses(len(self.seen))
                if content is None:
                    return
                writer.write(content)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    async def wait_for_requests(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.seen) < number:
                await asyncio.sleep(0.01)


def load(server: Server, *actions: Callable[..., object], clients: int = 1) -> Load:
    return Load(server.url, {}, dict.fromkeys(actions, 1), rate=400, clients=clients)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [list_notes, create_note])
async def test_a_request_whose_connection_breaks_has_failed_and_is_not_retried(
    action: Callable[..., object],
) -> None:
    def responses(number: int) -> bytes | None:
        return None if number % 3 == 0 else response_of(200 if action is list_notes else 201)

    server = Server(responses)
    async with server.listening(), load(server, action) as running:
        await server.wait_for_requests(10)
    stats = running.reads if action is list_notes else running.writes
    assert stats.sent == len(server.seen)
    assert stats.failed == len(server.seen) // 3
    assert sum(sample.failed for sample in running.samples) == stats.failed


async def test_every_unexpected_status_counts_as_a_failure_with_its_reason() -> None:
    server = Server(lambda number: response_of(503 if number == 2 else 200))
    async with server.listening(), load(server, list_notes) as running:
        await server.wait_for_requests(5)
    assert running.reads.failures == Counter({"503 so": 1})


async def test_a_write_is_retried_with_the_same_key_until_it_is_acknowledged() -> None:
    server = Server(lambda number: response_of(503 if number < 3 else 201))
    async with server.listening(), load(server, settle_note) as running:
        await server.wait_for_requests(3)
    key = server.keys[0]
    assert key
    assert server.keys[:3] == [key] * 3
    assert running.written[key] == "1"
    assert running.writes.failed == 2


async def test_another_id_for_the_same_key_is_a_failure() -> None:
    async with Server(lambda number: response_of(201, f'{{"id": "{number}"}}')).listening() as server:
        running = load(server, create_note)
        running.written["again"] = "0"
        async with one_connection(server.url) as session:
            await running.write(session, "/notes", "again", {})
    assert running.writes.failures == Counter({"201 with another id than before": 1})


async def test_a_rate_limit_stops_the_measurement() -> None:
    async with Server(lambda _number: response_of(429)).listening() as server:
        with pytest.raises(ExceptionGroup) as raised:
            await run_until_stopped(load(server, list_notes))
    assert raised.group_contains(RateLimited)


async def run_until_stopped(running: Load) -> None:
    async with running:
        await asyncio.sleep(10)
