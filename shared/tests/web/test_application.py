"""The assembly that all services share."""

import asyncio
import re
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import APIRouter, Depends, HTTPException
from prometheus_client import generate_latest
from pydantic import BaseModel, ConfigDict

from servicekit.core import context, errors
from servicekit.dispatcher import PeerTimeout
from servicekit.dispatcher.errors import ResponseRejected
from servicekit.idempotency import KeyInUse
from servicekit.testing.logs import logged_lines
from servicekit.testing.serving import nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.web.application import build_app
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.health import Check
from servicekit.web.json_body import InvalidJson


class Parcel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    weight: int


class StoreGone(Exception):
    """The exception of a driver whose store is unavailable."""


def _routes() -> APIRouter:
    router = APIRouter(prefix="/api/v1/parcels", route_class=route_with_body_limit())

    @router.post("/")
    async def create(parcel: Parcel) -> Parcel:
        return parcel

    @router.get("/context")
    async def show_context() -> dict[str, str | None]:
        request = context.current()
        assert request is not None
        return {
            "request_id": request.request_id,
            "correlation_id": request.correlation_id,
            "trace_id": request.trace_id,
            "traceparent": request.traceparent,
        }

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("password=hunter2")

    @router.get("/unavailable")
    async def away() -> None:
        raise StoreGone

    @router.get("/in-flight")
    async def in_flight() -> None:
        raise KeyInUse

    @router.get("/unread")
    async def unread() -> None:
        # As the framework's parser of forms does.
        raise HTTPException(400)

    @router.get("/peer-refused")
    async def peer_refused() -> None:
        raise ResponseRejected("user", "not sealed")

    @router.get("/peer-slow")
    async def peer_slow() -> None:
        raise PeerTimeout("user", "no response")

    @router.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    @router.get("/inner-timeout")
    async def inner_timeout() -> None:
        raise TimeoutError

    @router.get("/{parcel_id}")
    async def read(parcel_id: int) -> None:
        raise errors.NotFound(shelf="B 12")

    @router.delete("/{parcel_id}")
    async def delete(parcel_id: int) -> None:
        raise errors.NotFound

    return router


async def _fail() -> None:
    raise ConnectionError


async def _succeed() -> None:
    return None


def _client(**checks: Check) -> httpx2.AsyncClient:
    app = build_app(
        unconnected_settings("parcels"),
        title="Parcels",
        lifespan=nothing_to_do,
        routers=[_routes()],
        checks=checks,
        is_unavailable=lambda error: isinstance(error, StoreGone),
    )
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://parcels")


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with _client(store=Check(_succeed)) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "type_"),
    [
        ("GET", "/nowhere", None, 404, errors.BLANK),
        ("PUT", "/api/v1/parcels/7", None, 405, errors.BLANK),
        ("GET", "/api/v1/parcels/seven", None, 422, errors.UnprocessableContent.type),
        ("GET", "/api/v1/parcels/7", None, 404, errors.NotFound.type),
        ("POST", "/api/v1/parcels/", "{", 400, InvalidJson.type),
        ("POST", "/api/v1/parcels/", '{"weight": 1, "colour": "red"}', 422, errors.UnprocessableContent.type),
        ("POST", "/api/v1/parcels/", '{"weight": "heavy"}', 422, errors.UnprocessableContent.type),
        ("GET", "/api/v1/parcels/broken", None, 500, errors.ServiceError.type),
        ("GET", "/api/v1/parcels/inner-timeout", None, 500, errors.ServiceError.type),
        ("GET", "/api/v1/parcels/unavailable", None, 503, errors.ServiceUnavailable.type),
        ("GET", "/api/v1/parcels/in-flight", None, 409, "urn:baseplate:problem:key-in-flight"),
        ("GET", "/api/v1/parcels/unread", None, 400, errors.BadRequest.type),
        ("GET", "/api/v1/parcels/peer-refused", None, 502, errors.ServiceUnavailable.type),
        ("GET", "/api/v1/parcels/peer-slow", None, 504, errors.DeadlineExceeded.type),
    ],
)
async def test_every_error_is_a_problem_document(
    client: httpx2.AsyncClient, method: str, path: str, body: str | None, status: int, type_: str
) -> None:
    response = await client.request(method, path, content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert {"type", "title", "status", "detail", "instance", "request_id"} <= problem.keys()
    assert (problem["status"], problem["type"]) == (status, type_)
    assert problem["instance"] == path
    assert problem["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("host", ["parcels", "evil.example", "evil.example:99999", "a/b?c#d", "[", "\\evil", ""])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_a_slash_at_the_end_is_another_path_and_never_a_redirect(
    client: httpx2.AsyncClient, method: str, host: str
) -> None:
    # One route of the test ends in a slash.
    for path in ("/api/v1/parcels", "/api/v1/parcels/7/", "/docs/", "/openapi.json/", "//evil.example/", "/health//"):
        response = await client.request(method, f"http://parcels{path}", headers={"Host": host})

        assert response.status_code == 404
        assert "location" not in response.headers
        if method != "HEAD":
            assert response.json()["instance"] == path


async def test_an_unexpected_error_tells_the_client_nothing_of_its_cause(client: httpx2.AsyncClient) -> None:
    response = await client.get("/api/v1/parcels/broken")

    assert "hunter2" not in response.text
    assert "RuntimeError" not in response.text
    assert "Traceback" not in response.text


async def test_validation_names_the_fields_and_never_repeats_the_value(client: httpx2.AsyncClient) -> None:
    response = await client.post("/api/v1/parcels/", json={"weight": "hunter2"})

    assert [error["field"] for error in response.json()["errors"]] == ["body.weight"]
    assert "hunter2" not in response.text


async def test_a_method_that_is_not_allowed_names_those_of_all_routes_of_the_path(client: httpx2.AsyncClient) -> None:
    assert (await client.put("/api/v1/parcels/7")).headers["allow"] == "DELETE, GET, HEAD"
    assert (await client.put("/api/v1/parcels/")).headers["allow"] == "POST"
    assert (await client.delete("/health")).headers["allow"] == "GET, HEAD"


async def test_an_error_keeps_its_extension_members(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/api/v1/parcels/7")).json()["shelf"] == "B 12"


async def test_an_unavailable_store_is_503_with_retry_after(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/api/v1/parcels/unavailable")).headers["retry-after"] == "1"


async def test_work_stops_when_the_caller_has_given_up(client: httpx2.AsyncClient) -> None:
    response = await client.get("/api/v1/parcels/slow", headers={"X-Request-Deadline-Ms": "20"})

    assert response.status_code == 504
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_malformed_deadline_is_no_deadline(client: httpx2.AsyncClient) -> None:
    for deadline in ("-1", "1e3", "soon", "9" * 400):
        response = await client.get("/api/v1/parcels/context", headers={"X-Request-Deadline-Ms": deadline})
        assert response.status_code == 200


async def test_a_well_formed_request_id_is_kept_and_another_one_replaced(client: httpx2.AsyncClient) -> None:
    kept = await client.get("/api/v1/parcels/context", headers={"X-Request-Id": "order-7_a.b"})
    assert kept.headers["x-request-id"] == kept.json()["request_id"] == "order-7_a.b"
    assert kept.json()["correlation_id"] == "order-7_a.b"

    for unsafe in ("a b", "x" * 65, '"}{', "ä"):
        response = await client.get("/api/v1/parcels/context", headers={"X-Request-Id": unsafe.encode()})
        assert re.fullmatch(r"[0-9a-f-]{36}", response.headers["x-request-id"])


async def test_the_trace_context_is_taken_over_when_it_is_well_formed(client: httpx2.AsyncClient) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    good = f"00-{trace_id}-00f067aa0ba902b7-01"
    assert (await client.get("/api/v1/parcels/context", headers={"traceparent": good})).json()["trace_id"] == trace_id
    bad = await client.get("/api/v1/parcels/context", headers={"traceparent": "00-zz-1-01"})
    assert bad.json()["traceparent"] is None


async def test_metrics_carry_the_route_template_and_no_raw_path_or_invented_method(
    client: httpx2.AsyncClient,
) -> None:
    await client.get("/api/v1/parcels/4711")
    await client.get("/nowhere/4712")
    await client.request("BREW", "/api/v1/parcels/4711")

    text = (await client.get("/metrics")).text
    assert 'route="/api/v1/parcels/{parcel_id}"' in text
    assert "/4711" not in text
    assert "/4712" not in text
    assert "BREW" not in text


async def test_health_touches_no_store_and_ready_names_the_unavailable_one() -> None:
    async with _client(store=Check(_fail), cache=Check(_fail, required=False)) as client:
        alive = await client.get("/health")
        assert alive.status_code == 200
        assert alive.json()["service"] == "parcels"
        assert alive.json()["status"] == "alive"

        ready = await client.get("/ready")
        assert ready.status_code == 503
        assert ready.headers["content-type"] == "application/problem+json"
        assert ready.json()["reasons"][0] == "store does not answer"
        assert ready.json()["checks"] == {"store": "down", "cache": "down"}


async def test_without_an_optional_store_the_service_is_degraded_but_ready() -> None:
    async with _client(store=Check(_succeed), cache=Check(_fail, required=False)) as client:
        ready = await client.get("/ready")

    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    assert {"cpu_percent", "memory_percent", "disk_percent"} <= ready.json()["resources"].keys()


async def test_a_store_that_refuses_writes_makes_the_service_degraded() -> None:
    async def serve_reads() -> str:
        return "is read-only"

    async with _client(store=Check(serve_reads)) as client:
        ready = await client.get("/ready")

    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"] == {"store": "degraded"}
    assert ready.json()["reasons"] == ["store is read-only"]


async def test_a_request_that_failed_because_of_a_store_makes_the_service_degraded_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _client(store=Check(_succeed)) as client:
        assert (await client.get("/api/v1/parcels/unavailable")).status_code == 503
        degraded = await client.get("/ready")
        assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
        assert degraded.json()["reasons"] == ["a request failed: StoreGone"]

        monkeypatch.setattr("servicekit.web.health.FAILURE_SECONDS", 0.0)
        assert (await client.get("/ready")).json()["status"] == "ready"


async def test_a_full_disk_makes_a_service_unready(monkeypatch: pytest.MonkeyPatch) -> None:
    full = {"cpu_percent": 1.0, "memory_percent": 10.0, "disk_percent": 96.0}
    monkeypatch.setattr("servicekit.web.health._resources", lambda: full)
    async with _client(store=Check(_succeed)) as client:
        ready = await client.get("/ready")

    assert ready.status_code == 503
    assert ready.json()["reasons"] == ["disk is 96 % used"]


async def test_metrics_tell_how_full_the_disk_is(client: httpx2.AsyncClient) -> None:
    (value,) = re.findall(r"^service_disk_used_ratio (\S+)$", (await client.get("/metrics")).text, re.M)
    assert 0 < float(value) <= 1


async def test_the_documentation_names_the_errors_of_each_operation(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()

    assert "request_id" in document["components"]["schemas"]["Problem"]["required"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            errors_of = {status for status in operation["responses"] if not status.startswith("2")}
            assert "default" in errors_of, path
            for status in errors_of:
                content = operation["responses"][status]["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, (path, status)
                assert content["examples"], (path, status)
    create = document["paths"]["/api/v1/parcels/"]["post"]["responses"]
    assert {"400", "413", "422", "429", "503"} < create.keys()
    assert "404" in document["paths"]["/api/v1/parcels/{parcel_id}"]["delete"]["responses"]
    assert "503" in document["paths"]["/ready"]["get"]["responses"]


async def test_an_operation_is_named_by_its_service_and_its_function(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]

    assert paths["/api/v1/parcels/"]["post"]["operationId"] == "parcels_create"
    assert paths["/ready"]["get"]["operationId"] == "parcels_ready"


async def test_a_client_that_leaves_within_its_request_is_no_failure_of_the_service() -> None:
    router = APIRouter(route_class=route_with_body_limit(100))

    @router.post("/parcels")
    async def create(parcel: Parcel) -> Parcel:
        return parcel

    app = build_app(
        unconnected_settings("parcels"), title="Parcels", lifespan=nothing_to_do, routers=[router], checks={}
    )
    sent = []
    parts = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/parcels", "query_string": b"", "headers": [], "app": app}
    with logged_lines("WARNING") as lines:
        await app(scope, receive, send)

    assert (sent, lines) == ([], [])
    assert 'route="/parcels",status="499"' in generate_latest().decode()


async def test_the_route_of_a_typed_path_parameter_is_logged_without_its_type() -> None:
    router = APIRouter()

    @router.get("/crates/{crate_id:uuid}")
    async def read(crate_id: UUID) -> UUID:
        return crate_id

    app = build_app(
        unconnected_settings("parcels"), title="Crates", lifespan=nothing_to_do, routers=[router], checks={}
    )
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://crates") as http:
        assert (await http.get(f"/crates/{uuid4()}")).status_code == 200

    assert 'route="/crates/{crate_id}"' in generate_latest().decode()


def _get_parcel() -> str:
    return "a parcel"


async def _open_parcel(parcel: Annotated[str, Depends(_get_parcel)]) -> str:
    return parcel


class _ParcelOpener:
    def __call__(self) -> str:
        return "a parcel"


async def _show(parcel: Annotated[str, Depends(_open_parcel)]) -> str:
    return parcel


@pytest.mark.parametrize(
    ("endpoint", "dependency"),
    [
        pytest.param(_get_parcel, None, id="the route itself"),
        pytest.param(_show, None, id="the dependency of a dependency"),
        pytest.param(_succeed, _ParcelOpener(), id="a dependency of the router"),
    ],
)
def test_no_service_has_a_route_or_dependency_that_takes_a_thread(endpoint: Any, dependency: Any) -> None:
    router = APIRouter(dependencies=[Depends(dependency)] if dependency else [])
    router.get("/parcel")(endpoint)

    with pytest.raises(TypeError, match=r"/parcel calls .*, which must be asynchronous"):
        build_app(unconnected_settings("parcels"), title="Parcels", lifespan=nothing_to_do, routers=[router], checks={})


async def test_the_gateway_may_be_given_by_its_name() -> None:
    settings = unconnected_settings("parcels").model_copy(update={"gateway_networks": ("localhost",)})
    app = build_app(settings, title="Parcels", lifespan=nothing_to_do, routers=[], checks={})

    async with app.router.lifespan_context(app):
        assert ip_address("127.0.0.1") in app.state.gateway


async def test_the_page_of_the_api_loads_everything_from_the_service_itself(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "://" not in page.text

    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for path in loaded:
        assert (await client.get(path)).status_code == 200, path
    assert "'/openapi.json'" in page.text


@pytest.mark.parametrize("name", ["main.py", "..%2fmain.py", "../main.py", "%2e%2e/main.py"])
async def test_the_page_serves_no_other_file(client: httpx2.AsyncClient, name: str) -> None:
    assert (await client.get(f"/docs/swagger-ui/{name}")).status_code == 404
