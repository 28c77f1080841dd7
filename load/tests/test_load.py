"""The load is as strict as it claims: what a server does to it is what it counts, and nothing is sent twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from production.load import Load, create_note, list_notes, settle_note
from production.wire import RateLimited, one_connection

Answers = Callable[[int], bytes | None]


def answer(status: int, body: str = '{"id": "1", "detail": "so"}') -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Server:
    """Answers the nth request with what it is told; None breaks the connection instead."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
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
                content = self._answers(len(self.seen))
                if content is None:
                    return
                writer.write(content)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    async def has_seen(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.seen) < number:
                await asyncio.sleep(0.01)


def load(server: Server, *actions: Callable[..., object], clients: int = 1) -> Load:
    return Load(server.url, {}, dict.fromkeys(actions, 1), rate=400, clients=clients)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [list_notes, create_note])
async def test_a_connection_that_breaks_is_a_failed_request_and_the_request_is_not_sent_again(
    action: Callable[..., object],
) -> None:
    def answers(number: int) -> bytes | None:
        return None if number % 3 == 0 else answer(200 if action is list_notes else 201)

    server = Server(answers)
    async with server.listening(), load(server, action) as running:
        await server.has_seen(10)
    stats = running.reads if action is list_notes else running.writes
    assert stats.sent == len(server.seen)
    assert stats.failed == len(server.seen) // 3


async def test_every_status_but_the_expected_one_is_a_failure_that_is_told() -> None:
    server = Server(lambda number: answer(503 if number == 2 else 200))
    async with server.listening(), load(server, list_notes) as running:
        await server.has_seen(5)
    assert running.reads.failures == Counter({"503 so": 1})


async def test_a_write_is_settled_by_the_same_key_until_it_is_acknowledged() -> None:
    server = Server(lambda number: answer(503 if number < 3 else 201))
    async with server.listening(), load(server, settle_note) as running:
        await server.has_seen(3)
    key = server.keys[0]
    assert key
    assert server.keys[:3] == [key] * 3
    assert running.written[key] == "1"
    assert running.writes.failed == 2


async def test_another_id_for_the_same_key_is_a_failure() -> None:
    async with Server(lambda number: answer(201, f'{{"id": "{number}"}}')).listening() as server:
        running = load(server, create_note)
        running.written["again"] = "0"
        async with one_connection(server.url) as session:
            await running.write(session, "/notes", "again", {})
    assert running.writes.failures == Counter({"201 with another id than before": 1})


async def test_a_limit_stops_the_measurement() -> None:
    async with Server(lambda _number: answer(429)).listening() as server:
        with pytest.raises(ExceptionGroup) as raised:
            await for_a_while(load(server, list_notes))
    assert raised.group_contains(RateLimited)


async def for_a_while(running: Load) -> None:
    async with running:
        await asyncio.sleep(10)
