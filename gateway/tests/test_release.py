"""Releases: who gets to the candidate, and what the gateway itself does meanwhile."""

import asyncio
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config import Candidate, GatewaySettings
from gateway_config.render import STATIC_FILES
from gateway_config.testing.requests import BROKEN, BY_HAND, KEY, REPEATABLE, SENT_ONCE, send
from servicekit.testing.kept_alive import KeptAliveClients
from servicekit.testing.wire_server import Behaviour, answering, reply

UNLIMITED = GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0)
SERVICES = ("user", "analytics", "notes", "assets")


# Who gets to the candidate


async def test_the_candidate_gets_its_share_of_the_requests(world: Any) -> None:
    """Six standard deviations off, this fails once in five hundred million runs."""
    release = await world.release(weight=25, settings=replace(UNLIMITED, traced_share=0.25))

    async with KeptAliveClients(release.gateway.port, path="/api/v1/users/login", pause=0) as clients:
        await clients.more(1500)

    assert clients.lost == {}
    stable, candidate = release.arrivals()
    total = stable + candidate
    assert abs(candidate - total * 0.25) < 6 * (total * 0.25 * 0.75) ** 0.5
    # Whether a request is traced is another draw: as many of the candidate's as of all.
    traced = sum(request.headers["traceparent"].endswith("01") for request in release.candidate.seen())
    assert abs(traced - candidate * 0.25) < 6 * (candidate * 0.25 * 0.75) ** 0.5


async def test_at_weight_0_only_those_who_ask_get_to_the_candidate(world: Any) -> None:
    release = await world.release(weight=0)

    assert [(await release.gateway.get("/api/v1/notes")).body for _ in range(20)] == [b"stable"] * 20
    assert (await release.gateway.get("/api/v1/notes", headers=BY_HAND)).body == b"candidate"
    assert (await release.gateway.get("/.well-known/other", headers=BY_HAND)).status == 404


@pytest.mark.parametrize("asked", [*REPEATABLE, *SENT_ONCE])
async def test_at_weight_100_everything_gets_to_the_candidate(release: Any, asked: Any) -> None:
    assert (await send(release, asked)).status == 200
    assert release.arrivals() == (0, 1)


@pytest.mark.parametrize("value", ["v1", "v22", "v2, v2", "", "notes_v2"])
async def test_another_release_than_v2_cannot_be_asked_for(world: Any, value: str) -> None:
    release = await world.release(weight=0)
    assert (await release.gateway.get("/api/v1/notes", headers={"X-Release": value})).body == b"stable"


async def test_without_a_release_the_header_is_ignored(platform: Any) -> None:
    assert (await platform.gateway.get("/api/v1/notes", headers=BY_HAND)).body == b"notes"
    assert "x-release" not in platform.notes.only().headers


async def test_one_service_is_released_and_the_others_are_not(world: Any) -> None:
    stable, candidate = await world.backend("stable"), await world.backend("candidate")
    gateway = await world.gateway(
        {name: [stable.address] for name in ("notes", "assets")},
        candidates={"notes": Candidate([candidate.address], 100)},
    )

    assert (await gateway.get("/api/v1/notes")).body == b"candidate"
    assert (await gateway.get("/api/v1/assets", headers=BY_HAND)).body == b"stable"


# What the gateway itself does during a release


async def test_limits_count_a_request_once_however_often_it_is_sent(world: Any) -> None:
    release = await world.release(settings=replace(UNLIMITED, rate_auth=1), keys_known=False)
    release.candidate.answer = BROKEN["500"]

    began = time.monotonic()
    answers = [await release.gateway.post("/api/v1/users/register", headers=KEY) for _ in range(10)]

    statuses = [answer.status for answer in answers]
    assert statuses[:3] == [200] * 3
    # One more passes in each second that it takes.
    assert statuses.count(429) >= 7 - int(time.monotonic() - began)
    for refused in (answer for answer in answers if answer.status == 429):
        refused.problem()


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
async def test_what_is_too_large_is_refused_before_any_pool_sees_it(release: Any, chunked: bool) -> None:
    body = b"x" * 20_000
    if chunked:
        body, framing = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), {"Transfer-Encoding": "chunked"}
    else:
        framing = {"Content-Length": "20000"}

    answer = await release.gateway.post("/api/v1/users/register", headers={**KEY, **framing}, body=body)

    assert answer.status == 413
    answer.problem()
    assert release.arrivals() == (0, 0)


async def test_a_malformed_body_is_refused_before_any_pool_sees_it(release: Any) -> None:
    head = b"POST /api/v1/notes HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n"

    answer = await release.gateway.raw(head + b"Connection: close\r\n\r\nnonsense\r\n")

    assert answer.status == 400
    answer.problem()
    assert release.arrivals() == (0, 0)


@pytest.mark.parametrize("asked", [REPEATABLE[0], REPEATABLE[4], REPEATABLE[6], REPEATABLE[7]])
async def test_a_forged_token_is_refused_before_any_pool_sees_it(release: Any, asked: Any) -> None:
    answer = await send(release, asked, Authorization="Bearer a.b.c")

    assert answer.status == 401
    answer.problem()
    assert release.arrivals() == (0, 0)


async def test_a_good_token_goes_on_to_both_pools(world: Any) -> None:
    release = await world.release()
    release.candidate.answer = BROKEN["502"]
    token = world.issuer.token()

    assert (await release.gateway.get("/api/v1/users/profile", token=token)).body == b"stable"
    for backend in (release.candidate, release.stable):
        assert backend.only().headers["authorization"] == f"Bearer {token}"


async def test_pools_keep_copies_of_their_own(release: Any) -> None:
    path = "/api/v1/notes/public/copies"
    for backend in (release.stable, release.candidate):
        content = reply(body=backend.name.encode(), cache_control="public, max-age=60", content_type="text/plain")
        backend.answer = answering(content)

    first, again = await release.gateway.get(path), await release.gateway.get(path)
    assert [(answer.body, answer.get("X-Cache")) for answer in (first, again)] == [
        (b"candidate", "MISS"),
        (b"candidate", "HIT"),
    ]

    release.candidate.answer = BROKEN["500"]
    other = path + "-2"
    first, again = await release.gateway.get(other), await release.gateway.get(other)
    assert [(answer.body, answer.get("X-Cache")) for answer in (first, again)] == [
        (b"stable", "MISS"),
        (b"stable", "HIT"),
    ]
    # What the candidate fails is not kept, so it is tried each time.
    assert [request.target for request in release.candidate.seen()] == [path, other, other]


async def test_files_are_sent_for_whichever_pool_answers(world: Any, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "one").write_bytes(b"one")
    (folder / "two").write_bytes(b"two")
    release = await world.release(settings=replace(UNLIMITED, files_dir=str(folder)), keys_known=False)
    release.candidate.answer = answering(reply(x_accel_redirect="/-/files/one"))
    release.stable.answer = answering(reply(x_accel_redirect="/-/files/two"))

    assert (await release.gateway.get("/api/v1/assets/1/content")).body == b"one"
    release.candidate.answer = BROKEN["500"]
    answer = await release.gateway.get("/api/v1/assets/1/content", headers={"Range": "bytes=1-"})
    assert (answer.status, answer.body) == (206, b"wo")


async def test_public_keys_come_from_the_candidate_when_nobody_else_has_them(world: Any) -> None:
    stable, candidate = await world.backend("stable"), await world.backend("candidate")
    stable.keys = answering(reply(503))

    # It returns when a token is refused, which takes keys.
    await world.gateway({"user": [stable.address]}, candidates={"user": Candidate([candidate.address], 0)})

    assert candidate.key_fetches > 0


@pytest.mark.parametrize(
    ("stable_up", "candidate_up", "state"), [(True, False, "up"), (False, True, "up"), (False, False, "down")]
)
async def test_a_service_is_up_while_one_of_its_pools_is(
    release: Any, stable_up: bool, candidate_up: bool, state: str
) -> None:
    for backend, up in ((release.stable, stable_up), (release.candidate, candidate_up)):
        backend.health = answering(reply(200 if up else 503))

    answer = await release.gateway.get("/lb-health")

    assert answer.status == (200 if state == "up" else 503)
    assert answer.json() == {"services": dict.fromkeys(SERVICES, state)}


async def test_the_merged_document_lists_a_released_service_once(release: Any) -> None:
    def document(title: str) -> Behaviour:
        paths = {f"/api/v1/{title}": {"get": {}}}
        return answering(reply(body=json.dumps({"info": {"title": title}, "paths": paths}).encode()))

    release.stable.answer, release.candidate.answer = document("old"), document("new")
    assert list((await release.gateway.get("/openapi.json")).json()["paths"]) == ["/api/v1/old"]

    release.stable.answer = answering(reply(503))
    merged = (await release.gateway.get("/openapi.json")).json()
    assert (list(merged["paths"]), len(merged["tags"])) == (["/api/v1/new"], len(SERVICES))


async def test_the_access_line_names_the_release_and_every_attempt(release: Any) -> None:
    async def line(request_id: str, method: str = "GET", **headers: str) -> tuple[str, str, str, int]:
        sent = {"X-Request-Id": request_id, **headers}
        await release.gateway.send(method, "/api/v1/notes/1", headers=sent)
        entry = await release.gateway.log_line(request_id)
        return entry["route"], entry["release"], entry["upstream_status"], entry["status"]

    assert await line("good") == ("read", "v2", "200", 200)
    release.candidate.answer = BROKEN["503"]
    assert await line("saved") == ("read", "v2", "503 : 200", 200)
    assert await line("asked", **BY_HAND) == ("read", "v2", "503", 503)
    assert await line("write", "DELETE") == ("write", "v2", "503", 503)


async def test_without_a_release_the_access_line_names_the_stable_pool(platform: Any) -> None:
    for request_id, path, release in (("logged-stable", "/api/v1/notes", "v1"), ("logged-own", "/nowhere", "")):
        await platform.gateway.get(path, headers={"X-Request-Id": request_id})
        assert (await platform.gateway.log_line(request_id))["release"] == release


# A release from its beginning to its end


async def test_a_release_that_begins_moves_and_ends_loses_no_request(world: Any) -> None:
    stable, candidate = await world.backend("stable"), await world.backend("candidate")
    servers = {"notes": [stable.address]}
    gateway = await world.gateway(servers, keys_known=False)

    async with KeptAliveClients(gateway.port, path="/api/v1/notes") as clients:
        await clients.more(50)
        for weight in (0, 50, 100):
            await gateway.reload(servers, {"notes": Candidate([candidate.address], weight)})
            await clients.more(150)
        await gateway.reload(servers)
        await clients.more(150)

    assert clients.lost == {}
    assert set(clients.statuses) == {200}
    assert stable.seen()
    assert candidate.seen()
    async with asyncio.timeout(60):
        while (await gateway.get("/api/v1/notes", headers=BY_HAND)).body != b"stable":
            await asyncio.sleep(0.01)


def test_every_rule_set_that_is_sent_again_takes_part_in_releases() -> None:
    def locations(name: str, pattern: str) -> set[str]:
        text = (STATIC_FILES / "server" / name).read_text()
        return set(re.findall(pattern, text))

    repeated = locations("routes.conf", r"location /-/(\w+)/ \{[^}]*snippets/retry_(?:reads|keyed)\.conf")
    table = re.search(r"\(\?<repeatable>([a-z_|]+)\)", (STATIC_FILES / "http" / "releases.conf").read_text())
    assert table is not None
    assert repeated == set(table[1].split("|"))
    for form in (r"location /-/trial_(\w+)/", r"location @candidate_(\w+)", r"location @again_(\w+)"):
        assert locations("fallbacks.conf", form) == repeated
