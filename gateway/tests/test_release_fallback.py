"""Fallback: which failures of a canary the stable pool answers for, and which reach the client."""

import asyncio
from pathlib import Path

import pytest

from gateway_config import Canary
from gateway_config.testing.harness import GatewayHarness, Release
from gateway_config.testing.requests import (
    ASK_FOR_CANARY,
    FAILURES,
    KEY,
    NOT_RETRYABLE,
    RETRYABLE,
    Request,
    send,
)
from servicekit.testing.wire_server import Behaviour, closing, hanging, reply, responding

pytestmark = pytest.mark.servers

EACH_FAILURE = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
EACH_RETRYABLE = pytest.mark.parametrize("sent", RETRYABLE)


@EACH_FAILURE
@EACH_RETRYABLE
async def test_the_stable_pool_answers_a_retryable_request_that_the_canary_fails(
    release: Release, sent: Request, failure: Behaviour
) -> None:
    release.canary.respond = failure

    response = await send(release.gateway, sent)

    assert (response.status, response.body) == (200, b"" if sent[0] == "HEAD" else b"stable")
    assert response.get("Retry-After") is None
    # NGINX repeats a request on a new connection when a kept-alive one breaks.
    tried, repeated = release.canary.seen()[-1], release.stable.only()
    assert (tried.method, tried.target, tried.body) == (repeated.method, repeated.target, repeated.body)
    assert dict(tried.headers) == dict(repeated.headers)


@pytest.fixture(scope="module")
async def release_without_canary(module_harness: GatewayHarness) -> Release:
    """A release whose canary no longer listens."""
    release = await module_harness.release()
    await release.canary.stop()
    return release


@EACH_RETRYABLE
async def test_the_stable_pool_answers_when_the_canary_cannot_be_reached(
    release_without_canary: Release, sent: Request
) -> None:
    release_without_canary.reset()

    assert (await send(release_without_canary.gateway, sent)).status == 200
    assert release_without_canary.arrivals() == (1, 0)


async def test_the_stable_pool_answers_when_the_canary_times_out(harness: GatewayHarness, short_timeouts: Path) -> None:
    release = await harness.release(static_files=short_timeouts)
    release.canary.respond = hanging

    responses = await asyncio.gather(*(send(release.gateway, sent) for sent in RETRYABLE[:3]))

    assert [response.status for response in responses] == [200] * 3
    assert release.arrivals() == (3, 3)


async def test_another_server_of_the_canary_is_tried_before_the_stable_pool(harness: GatewayHarness) -> None:
    stable, first, second = [await harness.backend(name) for name in ("stable", "first", "second")]
    gateway = await harness.gateway(
        {"notes": [stable.address]}, canaries={"notes": Canary([first.address, second.address], 100)}
    )
    await first.stop()

    assert [(await gateway.get("/api/v1/notes")).body for _ in range(6)] == [b"second"] * 6


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("path", ["/api/v1/notes", "/api/v1/assets"])
async def test_the_stable_pool_gets_the_whole_of_a_large_body(release: Release, path: str, chunked: bool) -> None:
    """The body is larger than what NGINX keeps in memory."""
    release.canary.respond = FAILURES["500"]
    body = bytes(range(256)) * 4096 * 3

    if chunked:
        sent, framing = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), {"Transfer-Encoding": "chunked"}
    else:
        sent, framing = body, {"Content-Length": str(len(body))}
    response = await release.gateway.post(path, headers={**KEY, **framing}, body=sent)

    assert (response.status, response.body) == (200, b"stable")
    assert release.canary.only().body == release.stable.only().body == body


@EACH_FAILURE
@pytest.mark.parametrize("sent", NOT_RETRYABLE)
async def test_a_request_that_is_not_retryable_gets_the_failure_of_the_canary(
    release: Release, sent: Request, failure: Behaviour
) -> None:
    release.canary.respond = failure

    response = await send(release.gateway, sent)

    assert response.status >= 500
    assert failure is closing or response.body == b"broken"
    assert release.arrivals() == (0, 1)


@EACH_FAILURE
@EACH_RETRYABLE
async def test_a_request_that_asks_for_the_canary_gets_its_failure(
    release: Release, sent: Request, failure: Behaviour
) -> None:
    release.canary.respond = failure

    response = await send(release.gateway, sent, ASK_FOR_CANARY)

    assert response.status >= 500
    assert failure is closing or sent[0] == "HEAD" or response.body == b"broken"
    assert release.canary.seen()
    assert release.stable.seen() == []


@pytest.mark.parametrize("status", [201, 301, 304, 400, 401, 403, 404, 405, 409, 413, 422, 429, 501])
@EACH_RETRYABLE
async def test_any_other_response_of_the_canary_reaches_the_client(
    release: Release, sent: Request, status: int
) -> None:
    body = b"" if status == 304 else b'{"detail":"said"}'
    release.canary.respond = responding(reply(status, body, content_type="application/problem+json", x_mark="m"))

    response = await send(release.gateway, sent)

    assert (response.status, response.get("X-Mark")) == (status, "m")
    assert response.body == (b"" if sent[0] == "HEAD" else body)
    assert release.arrivals() == (0, 1)


@pytest.mark.parametrize("weight", [0, 100])
async def test_an_error_of_the_stable_pool_is_not_retried(harness: GatewayHarness, weight: int) -> None:
    stable, other, canary = [await harness.backend(name) for name in ("stable", "other", "canary")]
    gateway = await harness.gateway(
        {"notes": [stable.address, other.address]}, canaries={"notes": Canary([canary.address], weight)}
    )
    stable.respond = other.respond = responding(reply(500, b"its own"))
    canary.respond = FAILURES["503"]

    for method, headers in (("GET", {}), ("POST", KEY)):
        response = await gateway.send(method, "/api/v1/notes", headers=headers)
        assert (response.status, response.body) == (500, b"its own")

    assert len(stable.seen()) + len(other.seen()) == 2
    assert len(canary.seen()) == (2 if weight else 0)


async def test_a_problem_document_reports_that_both_pools_are_unavailable(harness: GatewayHarness) -> None:
    release = await harness.release(wait_for_keys=False)
    await release.canary.stop()
    await release.stable.stop()

    for sent in (RETRYABLE[0], RETRYABLE[7]):
        response = await send(release.gateway, sent)
        assert response.status == 502
        response.problem()
