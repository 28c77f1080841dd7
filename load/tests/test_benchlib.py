"""The arithmetic of the harness, and its load client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from benchlib import UNIQUE, Sample, Subject, at_least, at_most, http_request
from benchlib.client import Load, Outcome, Sending
from benchlib.report import Result
from benchlib.samples import calls, in_turn, percentile, ratios, spread


def test_a_percentile_lies_between_its_two_nearest_values() -> None:
    assert percentile([40.0, 10.0, 30.0, 20.0], 50) == 25.0
    assert percentile([1.0], 99) == 1.0
    assert percentile([], 50) == 0.0


def test_the_spread_is_the_median_between_the_quartiles() -> None:
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [("rate", 0.5), ("cpu", 4.0), ("cpu share", 0.25), ("p99", 3.0), ("memory", 2.0)],
    ids=["rate", "cpu", "share", "p99", "memory"],
)
def test_a_ratio_compares_the_samples_of_one_round(comparison: str, expected: float) -> None:
    base = Sample(100, 1.0, cpu=0.1, latencies=(1.0, 1.0, 1.0), memory=10.0)
    own = Sample(50, 1.0, cpu=0.2, latencies=(1.0, 1.0, 3.0), memory=20.0)
    assert ratios(comparison, [own, base], [base, base]) == [pytest.approx(expected), 1.0]


def test_the_ratio_of_medians_does_not_count_but_the_median_of_ratios() -> None:
    own = [Sample(1, 1.0), Sample(20, 1.0), Sample(300, 1.0)]
    base = [Sample(10, 1.0), Sample(100, 1.0), Sample(200, 1.0)]
    assert spread(ratios("rate", own, base))[0] == pytest.approx(0.2)


def test_every_second_round_is_reversed() -> None:
    one, two = (Subject(name, lambda seconds: asyncio.sleep(seconds, Sample(1, 1.0))) for name in ("one", "two"))
    assert [in_turn([one, two], number) for number in range(2)] == [[one, two], [two, one]]


def test_an_aim_is_reached_at_its_bound() -> None:
    assert [at_least(0.85).reached_by(value) for value in (0.84, 0.85)] == [False, True]
    assert [at_most(4.0).reached_by(value) for value in (4.0, 4.1)] == [True, False]


def test_a_result_without_an_aim_is_neither_reached_nor_missed() -> None:
    assert Result("start", [3.0, 1.0, 2.0], "s").document()["reached"] is None
    document = Result("start", [3.0, 1.0, 2.0], "s", at_most(1.5)).document()
    assert (document["value"], document["reached"]) == (2.0, False)


async def test_calls_counts_what_ends_and_uses_as_many_workers_as_told() -> None:
    running = peak = 0

    async def call() -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.001)
        running -= 1

    sample = await calls("call", call, 4).run(0.05)
    assert peak == 4
    assert sample.requests >= 4


def response_of(status: int, body: bytes, header: str = "Content-Length: 2") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{header}\r\n\r\n".encode() + body


@asynccontextmanager
async def served(respond: Callable[[int], bytes], seen: list[bytes]) -> AsyncIterator[str]:
    """Serve each request what `respond` returns for its number; nothing closes the connection."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or 0)
                seen.append(head + await reader.readexactly(length))
                response = respond(len(seen))
                if not response:
                    return
                # In two pieces, as a network may deliver it.
                writer.write(response[:10])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(response[10:])
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*serving)


async def send(load: Load, seconds: float = 0.05) -> Outcome:
    return await asyncio.to_thread(lambda: Sending(load).run(seconds))


@pytest.mark.parametrize(
    "response",
    [
        response_of(200, b"ok"),
        response_of(200, b"2\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        response_of(204, b"", "X-Empty: 1"),
        response_of(200, b"ok", "Connection: close\r\ncontent-length: 2"),
    ],
    ids=["length", "chunked", "empty", "closing"],
)
async def test_the_client_reads_every_response_to_its_end(response: bytes) -> None:
    seen: list[bytes] = []
    async with served(lambda _number: response, seen) as url:
        outcome = await send(Load(url, [http_request("GET", "/")], connections=2))
    assert outcome.lost == 0
    assert sum(outcome.statuses.values()) == len(outcome.latencies) == len(seen)


async def test_the_client_counts_a_broken_connection_as_lost_and_goes_on() -> None:
    seen: list[bytes] = []
    async with served(lambda number: b"" if number == 2 else response_of(200, b"ok"), seen) as url:
        outcome = await send(Load(url, [http_request("GET", "/")], connections=1))
    assert outcome.lost == 1
    assert outcome.statuses[200] == len(seen) - 1


async def test_the_client_sends_its_requests_in_turn_and_each_unique_value_once() -> None:
    seen: list[bytes] = []
    requests = [http_request("POST", f"/{n}", {"Idempotency-Key": UNIQUE.decode()}, b"body") for n in range(2)]
    async with served(lambda _number: response_of(201, b"ok"), seen) as url:
        await send(Load(url, requests, connections=1))
    assert [request.split(b" ")[1] for request in seen[:4]] == [b"/0", b"/1", b"/0", b"/1"]
    keys = [request.partition(b"Idempotency-Key: ")[2][: len(UNIQUE)] for request in seen]
    assert len(set(keys)) == len(seen)


async def test_a_paced_load_sends_as_many_requests_as_are_due() -> None:
    seen: list[bytes] = []
    async with served(lambda _number: response_of(200, b"ok"), seen) as url:
        outcome = await send(Load(url, [http_request("GET", "/")], connections=2, rate=200.0), seconds=0.1)
    assert len(seen) == len(outcome.latencies) == 20


async def test_a_body_larger_than_the_socket_takes_arrives_whole() -> None:
    seen: list[bytes] = []
    body = bytes(8 * 1024 * 1024)
    async with served(lambda _number: response_of(200, b"ok"), seen) as url:
        await send(Load(url, [http_request("PUT", "/", body=body)], connections=1))
    assert all(request.endswith(body) for request in seen)
