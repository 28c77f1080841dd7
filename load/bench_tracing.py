"""Measure what tracing costs a request: server CPU for a trivial route with tracing off, 1 % and 100 % sampled.

    .venv/bin/python load/bench_tracing.py [--quick]

Every variant has one worker under gunicorn; the collector is an NGINX that accepts everything. The framework's own
spans, made by OpenTelemetry's tracer, are compared with the framework alone. It takes a minute and a half. Differences
below 15 % are ties.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, FastAPI
from pydantic import HttpUrl, SecretStr

from benchlib import Run, http_request, main
from benchlib.applications import TELEMETRY
from benchlib.servers import gunicorn, nginx
from servicekit.core.settings import ServiceSettings
from servicekit.web.application import build_app

# Nothing listens on this port.
ABSENT = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Variant:
    """A kind of server: the kit's application, or a bare FastAPI one with the framework's own spans."""

    name: str
    ratio: float | None
    collector: bool = True
    framework: bool = False


VARIANTS = {
    "off": Variant("off", None),
    "one": Variant("1 %", 0.01),
    "all": Variant("100 %", 1.0),
    "absent": Variant("100 %, no collector", 1.0, collector=False),
    "bare": Variant("framework alone", None, framework=True),
    "own-one": Variant("framework's spans, 1 %", 0.01, framework=True),
    "own-all": Variant("framework's spans, 100 %", 1.0, framework=True),
}


def _router() -> APIRouter:
    router = APIRouter(prefix="/api/v1/parcels")

    @router.get("/{parcel}")
    async def read(parcel: int) -> dict[str, int]:
        return {"parcel": parcel}

    return router


@asynccontextmanager
async def _no_lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


def application(key: str, collector: str) -> FastAPI:
    """Return the application of a variant."""
    variant = VARIANTS[key]
    make = framework_app if variant.framework else kit_app
    return make(variant.ratio, collector if variant.collector else ABSENT)


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
        app = FastAPI(telemetry=TELEMETRY)
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


async def measure(run: Run) -> None:
    request = http_request("GET", "/api/v1/parcels/7")
    async with AsyncExitStack() as stack:
        collector = await stack.enter_async_context(nginx(run.folder / "collector", "location / { return 200; }"))
        subjects = {}
        for key, variant in VARIANTS.items():
            factory = f"bench_tracing:application('{key}', '{collector.url}')"
            server = await stack.enter_async_context(gunicorn(factory, run.folder))
            subjects[key] = run.http(variant.name, server.url, request, server.processes)
        await run.compare(list(subjects.values()))
    for key in ("one", "all", "absent"):
        run.ratio(f"traced, {VARIANTS[key].name}", "cpu share", subjects[key], subjects["off"])
    for key in ("own-one", "own-all"):
        run.ratio(VARIANTS[key].name, "cpu share", subjects[key], subjects["bare"])


if __name__ == "__main__":
    main(measure, __doc__)
