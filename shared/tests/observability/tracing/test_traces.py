"""Traces: one tree across services and stores, nothing built for what is not sampled, and nothing secret in it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from opskit.catalog import JWKS_PATH
from servicekit.storage import postgres
from servicekit.testing.collector import TakenSpan

MakeWorld = Callable[..., Awaitable[Any]]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GATEWAY_SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{GATEWAY_SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{GATEWAY_SPAN}-00"
SECRET = "hunter2"


def _by_name(spans: list[TakenSpan]) -> dict[tuple[str, str], TakenSpan]:
    return {(span.service, span.name): span for span in spans}


async def test_one_trace_leads_from_the_gateway_through_a_sealed_call_to_both_stores(make_world: MakeWorld) -> None:
    world = await make_world()

    response = await world.order(traceparent=SAMPLED)
    spans = await world.collector.trace(TRACE, "POST /api/v1/orders/{order}", "POST /api/v1/events/{event}")

    assert response.json() == {"trace_id": TRACE}
    named = _by_name(spans)
    request = named["user", "POST /api/v1/orders/{order}"]
    call = named["user", "POST analytics"]
    received = named["analytics", "POST /api/v1/events/{event}"]
    assert request.parent_id == GATEWAY_SPAN
    assert call.parent_id == request.span_id
    assert received.parent_id == call.span_id
    assert named["user", "INSERT orders"].parent_id == request.span_id
    assert named["analytics", "insert events"].parent_id == received.span_id
    assert len(spans) == 5
    assert len({span.span_id for span in spans}) == 5
    assert {span.kind for span in (request, received)} == {"server"}
    assert not any(span.failed for span in spans)
    assert all(
        span.started_at <= child.started_at for span in spans for child in spans if child.parent_id == span.span_id
    )


async def test_attributes_follow_the_semantic_conventions(make_world: MakeWorld, postgres_url: str) -> None:
    world = await make_world()

    await world.order(traceparent=SAMPLED)
    spans = await world.collector.trace(TRACE, "POST /api/v1/orders/{order}", "POST /api/v1/events/{event}")

    named = _by_name(spans)
    request = dict(named["user", "POST /api/v1/orders/{order}"].attributes)
    assert request.pop("request.id") == named["analytics", "POST /api/v1/events/{event}"].attributes["request.id"]
    assert request == {
        "http.request.method": "POST",
        "http.route": "/api/v1/orders/{order}",
        "http.response.status_code": 200,
        "url.path": "/api/v1/orders/7",
        "url.scheme": "http",
    }
    call = dict(named["user", "POST analytics"].attributes)
    port = call.pop("server.port")
    assert call == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "rpc.sealed": "yes",
        "server.address": "127.0.0.1",
        "service.peer.name": "analytics",
        "peer.service": "analytics",
        "url.full": f"http://127.0.0.1:{port}/api/v1/events/abc",
    }
    assert named["analytics", "POST /api/v1/events/{event}"].attributes["rpc.sealed"] == "yes"
    assert named["user", "INSERT orders"].attributes == {
        "db.system.name": "postgresql",
        "db.namespace": postgres_url.rpartition("/")[2],
        "db.operation.name": "INSERT",
        "db.collection.name": "orders",
    }
    stored = named["analytics", "insert events"].attributes
    assert {name: stored[name] for name in stored if name != "db.namespace"} == {
        "db.system.name": "mongodb",
        "db.operation.name": "insert",
        "db.collection.name": "events",
    }


async def test_no_query_body_parameter_or_text_of_an_error_is_in_a_trace(make_world: MakeWorld) -> None:
    world = await make_world()

    await world.order(traceparent=SAMPLED)
    await world.order(traceparent=SAMPLED, path="/failing")
    await world.order(traceparent=SAMPLED, path="/refused")
    await world.collector.trace(TRACE, "POST /api/v1/failing", "POST /api/v1/refused", "POST /api/v1/events/{event}")

    assert SECRET.encode() not in b"".join(request.body for request in world.collector.requests)


async def test_a_failure_is_marked_with_its_kind(make_world: MakeWorld) -> None:
    world = await make_world()

    await world.order(traceparent=SAMPLED, path="/failing")
    await world.order(traceparent=SAMPLED, path="/refused")
    named = _by_name(await world.collector.trace(TRACE, "POST /api/v1/failing", "POST /api/v1/refused", "GET"))

    statement = named["user", "SELECT orders"]
    assert (statement.failed, statement.attributes["error.type"]) == (True, "42703")
    assert named["user", "POST /api/v1/failing"].attributes["error.type"] == "500"
    call = named["user", "GET analytics"]
    assert (call.failed, call.attributes["error.type"]) == (True, "404")
    # A client's own mistake is no failure of the service.
    assert named["user", "POST /api/v1/refused"].failed is False
    assert named["analytics", "GET"].failed is False


async def test_an_unsampled_request_builds_no_span_and_hands_the_context_on(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world()

    def refuse(*_arguments: Any, **_named: Any) -> None:
        raise AssertionError("a span was built")

    monkeypatch.setattr("servicekit.observability.tracing.spans.Span.__init__", refuse)
    response = await world.order(traceparent=UNSAMPLED)

    assert (response.status_code, response.json()) == (200, {"trace_id": TRACE})
    assert world.seen == {"user": UNSAMPLED, "analytics": UNSAMPLED}
    assert world.collector.requests == []


async def test_a_request_without_context_begins_a_trace_of_its_own_that_logs_name(
    make_world: MakeWorld, capfd: pytest.CaptureFixture[str]
) -> None:
    world = await make_world(sampler=1.0)

    trace_id = (await world.order()).json()["trace_id"]
    spans = await world.collector.trace(trace_id, "POST /api/v1/orders/{order}", "POST /api/v1/events/{event}")

    assert [span.name for span in spans if not span.parent_id] == ["POST /api/v1/orders/{order}"]
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    access = {line["service"]: line["trace_id"] for line in lines if line["logger"] == "access"}
    assert access == {"user": trace_id, "analytics": trace_id}


async def test_the_ratio_keeps_new_traces_out_but_not_their_ids(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(sampler=0.25)
    drawn = iter((0.25, 0.24))
    monkeypatch.setattr("servicekit.observability.tracing.service.random.random", lambda: next(drawn))

    left_out, kept = [(await world.order(path=f"/orders/{number}")).json()["trace_id"] for number in (1, 2)]
    await world.collector.trace(kept, "POST /api/v1/orders/{order}", "POST /api/v1/events/{event}")

    assert len(left_out) == 32
    assert {span.trace_id for span in world.collector.spans} == {kept}


async def test_a_malformed_context_from_the_caller_begins_a_new_trace(make_world: MakeWorld) -> None:
    world = await make_world()

    for number, malformed in enumerate(
        (
            f"00-{'0' * 32}-{GATEWAY_SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"ff-{TRACE}-{GATEWAY_SPAN}-01",
            f"{SAMPLED}-x",
        )
    ):
        response = await world.order(traceparent=malformed, path=f"/orders/{number}")
        assert response.json()["trace_id"] not in (TRACE, "0" * 32)


async def test_background_work_continues_the_trace_of_its_cause(make_world: MakeWorld) -> None:
    world = await make_world()

    await world.order(traceparent=SAMPLED, path="/later")
    names = ("POST /api/v1/later", "POST analytics", "POST /api/v1/events/{event}")
    named = _by_name(await world.collector.trace(TRACE, *names))

    call = named["user", "POST analytics"]
    assert call.parent_id == named["user", "POST /api/v1/later"].span_id
    assert named["analytics", "POST /api/v1/events/{event}"].parent_id == call.span_id


async def test_probes_polls_and_invented_methods_and_paths_make_no_names_of_spans(
    make_world: MakeWorld,
) -> None:
    world = await make_world()

    for path in ("/health", "/ready", "/metrics", JWKS_PATH):
        await world.http.get(path, headers={"traceparent": SAMPLED})
    await world.http.request("PROPFIND", "/pots/4711", headers={"traceparent": SAMPLED})
    spans = await world.collector.trace(TRACE, "HTTP")

    assert [(span.name, span.attributes["http.request.method"]) for span in spans] == [("HTTP", "_OTHER")]


async def test_a_statement_outside_of_a_request_has_no_span(make_world: MakeWorld, postgres_url: str) -> None:
    await make_world()
    engine = postgres.create_engine(SecretStr(postgres_url), application="command", traced=True)

    await postgres.ping(engine)
    with pytest.raises(DBAPIError):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT nothing"))
    await engine.dispose()
