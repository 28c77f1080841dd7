"""Which failures of a candidate clients never see, and which they do."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway_config import Candidate, GatewaySettings
from gateway_config.testing.requests import BROKEN, BY_HAND, KEY, REPEATABLE, SENT_ONCE, send
from servicekit.testing.wire_server import Behaviour, answering, closing, hanging, reply

UNLIMITED = GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0)
SERVICES = ("user", "analytics", "notes", "assets")


@pytest.mark.parametrize("failure", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("asked", REPEATABLE)
async def test_a_failing_candidate_fails_nothing_that_may_be_repeated(
    release: Any, asked: Any, failure: Behaviour
) -> None:
    release.candidate.answer = failure

    answer = await send(release, asked)

    assert (answer.status, answer.body) == (200, b"" if asked[0] == "HEAD" else b"stable")
    assert answer.get("Retry-After") is None
    # NGINX tries a kept-alive connection that breaks once more on a new one.
    tried, answered = release.candidate.seen()[-1], release.stable.only()
    assert (tried.method, tried.target, tried.body) == (answered.method, answered.target, answered.body)
    assert dict(tried.headers) == dict(answered.headers)


@pytest.mark.parametrize("asked", REPEATABLE)
async def test_a_candidate_that_is_gone_fails_nothing_that_may_be_repeated(world: Any, asked: Any) -> None:
    release = await world.release()
    await release.candidate.__aexit__(None, None, None)

    assert (await send(release, asked)).status == 200
    assert release.arrivals() == (1, 0)


async def test_a_silent_candidate_fails_nothing_that_may_be_repeated(world: Any, impatient: Path) -> None:
    release = await world.release(static_files=impatient)
    release.candidate.answer = hanging

    answers = await asyncio.gather(*(send(release, request) for request in REPEATABLE[:3]))

    assert [answer.status for answer in answers] == [200] * 3
    assert release.arrivals() == (3, 3)


async def test_another_server_of_the_candidate_comes_before_the_stable_pool(world: Any) -> None:
    stable, first, second = [await world.backend(name) for name in ("stable", "first", "second")]
    gateway = await world.gateway(
        {"notes": [stable.address]}, candidates={"notes": Candidate([first.address, second.address], 100)}
    )
    await first.__aexit__(None, None, None)

    assert [(await gateway.get("/api/v1/notes")).body for _ in range(6)] == [b"second"] * 6


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("path", ["/api/v1/notes", "/api/v1/assets"])
async def test_a_large_body_arrives_whole_at_the_stable_pool(release: Any, path: str, chunked: bool) -> None:
    """Larger than what NGINX keeps in memory."""
    release.candidate.answer = BROKEN["500"]
    body = bytes(range(256)) * 4096 * 3

    if chunked:
        sent, framing = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), {"Transfer-Encoding": "chunked"}
    else:
        sent, framing = body, {"Content-Length": str(len(body))}
    answer = await release.gateway.post(path, headers={**KEY, **framing}, body=sent)

    assert (answer.status, answer.body) == (200, b"stable")
    assert release.candidate.only().body == release.stable.only().body == body


@pytest.mark.parametrize("failure", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("asked", SENT_ONCE)
async def test_what_may_have_had_an_effect_gets_the_candidates_own_answer(
    release: Any, asked: Any, failure: Behaviour
) -> None:
    release.candidate.answer = failure

    answer = await send(release, asked)

    assert answer.status >= 500
    assert failure is closing or answer.body == b"broken"
    assert release.arrivals() == (0, 1)


@pytest.mark.parametrize("failure", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("asked", REPEATABLE)
async def test_who_asks_for_the_candidate_sees_its_failures(release: Any, asked: Any, failure: Behaviour) -> None:
    release.candidate.answer = failure

    answer = await send(release, asked, **BY_HAND)

    assert answer.status >= 500
    assert failure is closing or asked[0] == "HEAD" or answer.body == b"broken"
    assert release.candidate.seen()
    assert release.stable.seen() == []


@pytest.mark.parametrize("status", [201, 301, 304, 400, 401, 403, 404, 405, 409, 413, 422, 429, 501])
@pytest.mark.parametrize("asked", REPEATABLE)
async def test_what_the_candidate_says_of_a_request_is_its_answer(release: Any, asked: Any, status: int) -> None:
    said = b"" if status == 304 else b'{"detail":"said"}'
    release.candidate.answer = answering(reply(status, said, content_type="application/problem+json", x_mark="m"))

    answer = await send(release, asked)

    assert (answer.status, answer.get("X-Mark")) == (status, "m")
    assert answer.body == (b"" if asked[0] == "HEAD" else said)
    assert release.arrivals() == (0, 1)


@pytest.mark.parametrize("weight", [0, 100])
async def test_an_error_of_the_stable_pool_is_never_repeated(world: Any, weight: int) -> None:
    stable, other, candidate = [await world.backend(name) for name in ("stable", "other", "candidate")]
    gateway = await world.gateway(
        {"notes": [stable.address, other.address]}, candidates={"notes": Candidate([candidate.address], weight)}
    )
    stable.answer = other.answer = answering(reply(500, b"its own"))
    candidate.answer = BROKEN["503"]

    for method, headers in (("GET", {}), ("POST", KEY)):
        answer = await gateway.send(method, "/api/v1/notes", headers=headers)
        assert (answer.status, answer.body) == (500, b"its own")

    assert len(stable.seen()) + len(other.seen()) == 2
    assert len(candidate.seen()) == (2 if weight else 0)


async def test_when_both_pools_are_away_the_error_is_a_problem_document(world: Any) -> None:
    release = await world.release(keys_known=False)
    await release.candidate.__aexit__(None, None, None)
    await release.stable.__aexit__(None, None, None)

    for request in (REPEATABLE[0], REPEATABLE[6]):
        answer = await send(release, request)
        assert answer.status == 502
        answer.problem()
