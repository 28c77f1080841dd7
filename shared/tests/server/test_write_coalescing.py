"""Head and body of a response leave the process together, so that a killed process leaves no half response."""

import asyncio
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from servicekit.server.worker import ProblemProtocol
from servicekit.server.write_coalescing import MOST_HELD_BYTES, CoalescingTransport


class Recorder:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def writelines(self, parts: list[bytes]) -> None:
        self.calls.append(b"".join(parts))

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls

    def get_extra_info(self, name: str) -> Any:
        return None


@pytest.fixture
async def transport() -> Recorder:
    return Recorder()


@pytest.fixture
async def joined(transport: Recorder) -> CoalescingTransport:
    return CoalescingTransport(transport, asyncio.get_running_loop())  # type: ignore[arg-type]


async def _pass() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_response_is_one_write(transport: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"fine"})

    config = Config(app, lifespan="off", log_config=None)
    config.load()
    protocol = ProblemProtocol(config, ServerState(), {})
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await _pass()

    assert len(transport.calls) == 2
    response, closing = transport.calls
    assert isinstance(response, bytes)
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert response.endswith(b"\r\n\r\nfine")
    assert closing == "close"


async def test_parts_that_come_in_different_passes_are_not_held_back(
    joined: CoalescingTransport, transport: Recorder
) -> None:
    for part in (b"1", b"2"):
        joined.write(part)
        await _pass()

    assert transport.calls == [b"1", b"2"]


async def test_a_body_without_pauses_does_not_pile_up(joined: CoalescingTransport, transport: Recorder) -> None:
    joined.write(b"head")
    joined.write(b"x" * MOST_HELD_BYTES)
    joined.write(b"rest")

    assert transport.calls == [b"head" + b"x" * MOST_HELD_BYTES]
    await _pass()
    assert transport.calls[1:] == [b"rest"]


async def test_what_was_written_before_a_close_is_sent_before_it(
    joined: CoalescingTransport, transport: Recorder
) -> None:
    joined.write(b"last")
    joined.close()
    joined.write(b"too late")
    await _pass()

    assert transport.calls == [b"last", "close"]
