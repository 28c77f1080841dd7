"""Traces: every request has one. A client may choose its id, but not whether it is recorded."""

import re
from dataclasses import replace

import pytest

from gateway_config.testing.harness import UNLIMITED, GatewayHarness, Platform
from servicekit.testing.wire_server import closing

pytestmark = pytest.mark.servers

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PATH = "/api/v1/users/stats/count"
WELL_FORMED = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-(0[01])")

MALFORMED = [
    "",
    "nonsense",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE[:-1]}-{SPAN}-01",
    f"00-{TRACE[:-1]}g-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"01-{TRACE}-{SPAN}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f" 00-{TRACE}-{SPAN}-01\t,",
    f'00-{TRACE}-{SPAN}-01"}}',
]


def _parts(traceparent: str) -> tuple[str, str, str]:
    """Return trace id, parent id and flags of a header, which must be well-formed."""
    match = WELL_FORMED.fullmatch(traceparent)
    assert match is not None, traceparent
    return match[1], match[2], match[3]


async def test_a_request_without_a_trace_starts_one_that_is_logged(platform: Platform) -> None:
    await platform.gateway.get(PATH, headers={"X-Request-Id": "traced-one"})
    await platform.gateway.get(PATH)

    first, second = [_parts(request.headers["traceparent"]) for request in platform.user.seen()]
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert (await platform.gateway.log_line("traced-one"))["trace_id"] == first[0]
    assert "tracestate" not in platform.user.seen()[0].headers


@pytest.mark.parametrize("malformed", MALFORMED)
async def test_a_malformed_trace_is_replaced_and_its_state_dropped(platform: Platform, malformed: str) -> None:
    headers = {"traceparent": malformed, "tracestate": "forged=value"}

    await platform.gateway.get(PATH, headers=headers)

    request = platform.user.only()
    trace_id, parent_id, _ = _parts(request.headers["traceparent"])
    assert trace_id != TRACE
    assert parent_id != SPAN
    assert "tracestate" not in request.headers


async def test_two_traceparent_headers_are_ignored(platform: Platform) -> None:
    await platform.gateway.get(PATH, headers=[("traceparent", f"00-{TRACE}-{SPAN}-01")] * 2)

    assert _parts(platform.user.only().headers["traceparent"])[0] != TRACE


async def test_the_trace_of_a_client_is_continued_with_its_state(platform: Platform) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "a=b", "X-Request-Id": "traced-client"}

    await platform.gateway.get(PATH, headers=headers)

    request = platform.user.only()
    assert _parts(request.headers["traceparent"])[0] == TRACE
    assert request.headers["tracestate"] == "a=b"
    assert (await platform.gateway.log_line("traced-client"))["trace_id"] == TRACE


@pytest.mark.parametrize("flags", ["01", "03", "ff"])
async def test_a_client_cannot_have_its_requests_recorded(platform: Platform, flags: str) -> None:
    await platform.gateway.get(PATH, headers={"traceparent": f"00-{TRACE}-{SPAN}-{flags}"})

    # The flag has changed, so the parent has too.
    trace_id, parent_id, passed = _parts(platform.user.only().headers["traceparent"])
    assert (trace_id, passed) == (TRACE, "00")
    assert parent_id != SPAN


async def test_a_client_that_records_is_the_parent_where_all_is_recorded(harness: GatewayHarness) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]}, replace(UNLIMITED, traced_share=1.0), wait_for_keys=False)

    seen = []
    for flags in ("01", "00"):
        await gateway.get(PATH, headers={"traceparent": f"00-{TRACE}-{SPAN}-{flags}"})
        seen.append(_parts(user.only().headers["traceparent"]))
    await gateway.get(PATH)
    seen.append(_parts(user.only().headers["traceparent"]))

    assert seen[0] == (TRACE, SPAN, "01")
    assert (seen[1][0], seen[1][2]) == (TRACE, "01")
    assert seen[1][1] != SPAN
    assert seen[2][2] == "01"


async def test_a_client_cannot_choose_ids_that_are_recorded(harness: GatewayHarness) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]}, replace(UNLIMITED, traced_share=0.5), wait_for_keys=False)
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "always-the-same"}

    # A hundred fair draws are all equal once in 2^99 runs.
    for _ in range(100):
        await gateway.get(PATH, headers=headers)

    assert {_parts(request.headers["traceparent"])[2] for request in user.seen()} == {"00", "01"}


async def test_a_retried_request_keeps_its_trace_context(harness: GatewayHarness) -> None:
    replicas = await harness.replicas(2)
    replicas.respond(closing)

    await replicas.gateway.get(PATH)

    contexts = [request.headers["traceparent"] for request in replicas.arrivals()]
    assert len(contexts) == 2
    assert len(set(contexts)) == 1
