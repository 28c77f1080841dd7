"""Measure what tracing costs a request: server CPU for a trivial route with tracing off, 1 % and 100 % sampled.

    .venv/bin/python load/bench_tracing.py [--rounds 9]

Every variant runs in its own server process; so does the collector. In each round every variant gets one time slice of
load. The table shows medians over the rounds; ratios are taken within each round. The framework's own spans, made by
OpenTelemetry's tracer, are compared with the framework alone. It takes a minute. Differences below 15 % are ties.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI
from pydantic import HttpUrl, SecretStr

from servicekit.core.settings import ServiceSettings
from servicekit.web.application import build_app

IN_FLIGHT = 16
SLICE_SECONDS = 0.5
# Nothing listens on this port.
ABSENT = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Variant:
    """A kind of server: the kit's application, or a bare FastAPI one with the framework's own spans."""

    name: str
    ratio: float | None
    collector: bool = True
    framework: bool = False
    base: str = "off"


VARIANTS = {
    "off": Variant("off", None),
    "one": Variant("1 %", 0.01),
    "all": Variant("100 %", 1.0),
    "absent": Variant("100 %, no collector", 1.0, collector=False),
    "bare": Variant("framework alone", None, framework=True, base="bare"),
    "own-one": Variant("framework's spans, 1 %", 0.01, framework=True, base="bare"),
    "own-all": Variant("framework's spans, 100 %", 1.0, framework=True, base="bare"),
}


@dataclass
class Samples:
    """The measurements of one variant, one per time slice."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def _router() -> APIRouter:
    router = APIRouter(prefix="/api/v1/parcels")

    @router.get("/{parcel}")
    async def read(parcel: int) -> dict[str, int]:
        return {"parcel": parcel}

    return router


@asynccontextmanager
async def _no_lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


def kit_app(ratio: float | None, collector: str) -> FastAPI:
    """Return the kit's application with one route."""
    settings = ServiceSettings(
        service_name="bench",
        valkey_url=SecretStr("redis://127.0.0.1:1/0"),
        service_keys_dir=Path(),
        fingerprint_secret=SecretStr("f" * 32),
        otel_exporter_otlp_endpoint=HttpUrl(collector) if ratio is not None else None,
        otel_traces_sampler_arg=ratio or 0.0,
    )
    return build_app(settings, title="Bench", lifespan=_no_lifespan, routers=[_router()], checks={})


def framework_app(ratio: float | None, collector: str) -> FastAPI:
    """Return the same route on bare FastAPI, with the framework's own spans if there is a ratio."""
    if ratio is None:
        app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

        provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{collector}/v1/traces")))
        app = FastAPI(telemetry={"tracer_provider": provider, "metrics": False, "logs": False})
    app.include_router(_router())
    return app


def serve(key: str, collector: str) -> None:
    """Run the server of a variant until standard input closes."""
    variant = VARIANTS[key]
    make = framework_app if variant.framework else kit_app
    app = make(variant.ratio, collector if variant.collector else ABSENT)

    async def run() -> None:
        server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], file=sys.stderr, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving

    uvloop.run(run())


async def collect() -> None:
    """Run a collector that accepts everything until standard input closes."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], file=sys.stderr, flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def child(*arguments: str) -> Iterator[tuple[int, str]]:
    """Start this script in another role; yield its process id and URL. It ends when its standard input closes."""
    command = [sys.executable, os.path.abspath(__file__), *arguments]  # noqa: PTH100
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        yield process.pid, f"http://127.0.0.1:{int(process.stderr.readline())}"
        process.stdin.close()


async def run_slice(session: aiohttp.ClientSession, pid: int, url: str, into: Samples) -> None:
    """Send load to one server for `SLICE_SECONDS`."""
    times: list[float] = []
    ends = time.perf_counter() + SLICE_SECONDS

    async def worker() -> None:
        while (started := time.perf_counter()) < ends:
            async with session.get(f"{url}/api/v1/parcels/7") as response:
                await response.read()
            times.append(time.perf_counter() - started)

    process = psutil.Process(pid)
    before, started = process.cpu_times(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    after, took = process.cpu_times(), time.perf_counter() - started
    used = after.user + after.system - before.user - before.system
    into.cpu.append(used / len(times) * 1e6)
    into.rate.append(len(times) / took)
    into.p99.append(statistics.quantiles(times, n=100)[98] * 1000)


async def measure(rounds: int) -> dict[str, Samples]:
    """Start everything, run all rounds, and return the samples by variant."""
    measured = {key: Samples() for key in VARIANTS}
    with ExitStack() as stack:
        _, collector = stack.enter_context(child("--collect"))
        servers = {key: stack.enter_context(child("--serve", key, "--collector", collector)) for key in VARIANTS}
        async with aiohttp.ClientSession() as session:
            for pid, url in servers.values():
                await run_slice(session, pid, url, Samples())
            for _ in range(rounds):
                for key, (pid, url) in servers.items():
                    await run_slice(session, pid, url, measured[key])
    return measured


def print_table(measured: dict[str, Samples]) -> None:
    """Print medians, and ratios to each variant's base."""
    print(f"{'':<26}CPU µs/request  requests/s  p99 ms   of base (CPU)")
    for key, own in measured.items():
        base = measured[VARIANTS[key].base]
        ratio = statistics.median(b / o for b, o in zip(base.cpu, own.cpu, strict=True))
        print(
            f"{VARIANTS[key].name:<26}{statistics.median(own.cpu):>14.0f}{statistics.median(own.rate):>12.0f}"
            f"{statistics.median(own.p99):>8.1f}{ratio:>16.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--collector", help=argparse.SUPPRESS)
    parser.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.collect:
        uvloop.run(collect())
    elif arguments.serve:
        serve(arguments.serve, arguments.collector)
    else:
        print_table(uvloop.run(measure(arguments.rounds)))


if __name__ == "__main__":
    main()
