"""Every request has a trace; a client may bring its id, but decides nothing about recording."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config import GatewaySettings, SettingError, render
from opskit.catalog import read_catalog

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
    """The trace id, the parent id and the flags of a header that must be well-formed."""
    match = WELL_FORMED.fullmatch(traceparent)
    assert match is not None, traceparent
    return match[1], match[2], match[3]


Gateways = Callable[[float], Awaitable[tuple[Any, Any]]]


@pytest.fixture
async def gateways(world: Any) -> Gateways:
    """Return what starts a gateway with this share of recorded requests, and the server behind it."""

    async def start(share: float) -> tuple[Any, Any]:
        user = await world.backend("user")
        settings = GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0, traced_share=share)
        return await world.gateway({"user": [user.address]}, settings), user

    return start


async def test_a_request_without_a_trace_begins_one_that_the_log_names(platform: Any) -> None:
    await platform.gateway.get(PATH, headers={"X-Request-Id": "traced-one"})
    await platform.gateway.get(PATH)

    first, second = [_parts(request.headers["traceparent"]) for request in platform.user.seen()]
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert (await platform.gateway.log_line("traced-one"))["trace_id"] == first[0]
    assert "tracestate" not in platform.user.seen()[0].headers


@pytest.mark.parametrize("malformed", MALFORMED)
async def test_a_malformed_trace_is_replaced_and_its_state_dropped(platform: Any, malformed: str) -> None:
    headers = {"traceparent": malformed, "tracestate": "forged=value"}

    await platform.gateway.get(PATH, headers=headers)

    request = platform.user.only()
    trace_id, parent_id, _ = _parts(request.headers["traceparent"])
    assert trace_id != TRACE
    assert parent_id != SPAN
    assert "tracestate" not in request.headers


async def test_two_traces_in_one_request_are_none(platform: Any) -> None:
    await platform.gateway.get(PATH, headers=[("traceparent", f"00-{TRACE}-{SPAN}-01")] * 2)

    assert _parts(platform.user.only().headers["traceparent"])[0] != TRACE


async def test_the_trace_of_a_client_goes_on_with_its_state(platform: Any) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "a=b", "X-Request-Id": "traced-client"}

    await platform.gateway.get(PATH, headers=headers)

    request = platform.user.only()
    assert _parts(request.headers["traceparent"])[0] == TRACE
    assert request.headers["tracestate"] == "a=b"
    assert (await platform.gateway.log_line("traced-client"))["trace_id"] == TRACE


@pytest.mark.parametrize("flags", ["01", "03", "ff"])
async def test_a_client_cannot_have_its_requests_recorded(platform: Any, flags: str) -> None:
    await platform.gateway.get(PATH, headers={"traceparent": f"00-{TRACE}-{SPAN}-{flags}"})

    # The flag has changed, so the parent has, too.
    trace_id, parent_id, passed = _parts(platform.user.only().headers["traceparent"])
    assert (trace_id, passed) == (TRACE, "00")
    assert parent_id != SPAN


async def test_where_all_is_recorded_a_client_that_records_is_the_parent(gateways: Gateways) -> None:
    gateway, user = await gateways(1.0)

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


async def test_no_trace_or_request_id_of_a_client_decides_the_draw(gateways: Gateways) -> None:
    gateway, user = await gateways(0.5)
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "always-the-same"}

    # That 100 fair draws are all alike happens once in 2^99.
    for _ in range(100):
        await gateway.get(PATH, headers=headers)

    assert {_parts(request.headers["traceparent"])[2] for request in user.seen()} == {"00", "01"}


async def test_a_request_that_is_sent_again_keeps_its_context(world: Any) -> None:
    servers = [await world.backend("user"), await world.backend("user")]
    gateway = await world.gateway({"user": [server.address for server in servers]})

    async def lose(_request: Any, writer: Any) -> None:
        writer.close()

    for server in servers:
        server.answer = lose
    await gateway.get(PATH)

    contexts = [request.headers["traceparent"] for server in servers for request in server.seen()]
    assert len(contexts) == 2
    assert len(set(contexts)) == 1


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.29, 0.99999, 1.0])
async def test_nginx_accepts_every_share(
    share: float, machine: GatewaySettings, check: Callable[[Path], Awaitable[str]], tmp_path: Path
) -> None:
    settings = replace(machine, traced_share=share)
    catalog = read_catalog()

    render(settings, catalog, {name: ["127.0.0.1:9001"] for name in catalog}, tmp_path)

    assert await check(tmp_path) == ""


def test_nothing_is_recorded_without_a_collector_and_everything_with_one_unless_said_otherwise() -> None:
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}

    assert GatewaySettings.from_environ({"OTEL_TRACES_SAMPLER_ARG": "0.5"}).traced_share == 0
    assert GatewaySettings.from_environ(collector).traced_share == 1
    for text, share in (("0.25", 0.25), ("1", 1.0), ("0", 0.0), (".5", 0.5), ("0.0", 0.0)):
        assert GatewaySettings.from_environ({**collector, "OTEL_TRACES_SAMPLER_ARG": text}).traced_share == share


@pytest.mark.parametrize("text", ["2", "-1", "1%", "nan", "1e-2", "0.00001", "half", "1.", "0.5; include x"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="OTEL_TRACES_SAMPLER_ARG"):
        GatewaySettings.from_environ(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_SAMPLER_ARG": text}
        )
