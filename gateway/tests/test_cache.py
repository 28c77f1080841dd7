"""What the edge keeps copies of, whom it gives them, and for how long."""

import asyncio
import time
from itertools import count
from typing import Any

import pytest

from servicekit.testing.wire_server import Received, answering, closing, reply

LONG = "public, max-age=60"
_slugs = count(1)


@pytest.fixture
def page() -> str:
    """A path of a published note that no other test asks for."""
    return f"/api/v1/notes/public/slug-{next(_slugs)}"


class Counting:
    """Answers each request with its number."""

    def __init__(self, **headers: str) -> None:
        self._headers = headers
        self._numbers = count(1)

    async def __call__(self, _request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(body=str(next(self._numbers)).encode(), **self._headers))


async def test_a_public_answer_is_kept_for_everybody(platform: Any, page: str) -> None:
    platform.notes.answer = Counting(cache_control=LONG, content_type="text/plain", etag='"1"')

    answers = [await platform.gateway.get(page, headers=headers) for headers in ({}, {"Cookie": "a=b"}, {"X-Any": "x"})]

    assert [answer.body for answer in answers] == [b"1", b"1", b"1"]
    assert [answer.get("X-Cache") for answer in answers] == ["MISS", "HIT", "HIT"]
    assert [answer.get("Cache-Control") for answer in answers] == [LONG] * 3
    assert {answer.get("ETag") for answer in answers} == {'"1"'}
    assert len({answer.get("X-Request-Id") for answer in answers}) == 3
    assert platform.notes.only().target == page


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cache_control": "max-age=60"},
        {"cache_control": "private, max-age=60"},
        {"cache_control": "public"},
        {"cache_control": "public, no-store, max-age=60"},
        {"cache_control": "public, no-cache, max-age=60"},
        {"cache_control": "public, private, max-age=60"},
        {"cache_control": "x-public, max-age=60"},
        {"cache_control": 'x="public", max-age=60'},
        {"cache_control": LONG, "set_cookie": "a=b"},
        {"expires": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"x_accel_expires": "60"},
    ],
)
async def test_nothing_else_is_kept(platform: Any, page: str, headers: dict[str, str]) -> None:
    platform.notes.answer = Counting(**headers)

    answers = [await platform.gateway.get(page) for _ in range(2)]

    assert [answer.body for answer in answers] == [b"1", b"2"]
    assert [answer.get("X-Cache") for answer in answers] == ["MISS", "MISS"]


@pytest.mark.parametrize("credentials", ["Bearer a.b.c", "Basic YTpi", "0"])
async def test_a_request_with_credentials_neither_gets_a_copy_nor_leaves_one(
    platform: Any, page: str, credentials: str
) -> None:
    platform.notes.answer = Counting(cache_control=LONG)
    authorized = {"Authorization": credentials}

    first = await platform.gateway.get(page, headers=authorized)
    second = await platform.gateway.get(page)
    third = await platform.gateway.get(page, headers=authorized)
    fourth = await platform.gateway.get(page)

    answers = (first, second, third, fourth)
    assert [(answer.body, answer.get("X-Cache")) for answer in answers] == [
        (b"1", "BYPASS"),
        (b"2", "MISS"),
        (b"3", "BYPASS"),
        (b"2", "HIT"),
    ]
    assert all("authorization" not in request.headers for request in platform.notes.seen())


async def test_a_copy_is_gone_after_its_time(platform: Any, page: str) -> None:
    """Even while it may be served during a renewal, the request that renews it gets the new answer."""
    platform.notes.answer = Counting(cache_control="public, max-age=1, stale-while-revalidate=60")
    started = time.monotonic()
    assert (await platform.gateway.get(page)).body == b"1"

    async with asyncio.timeout(60):
        while (answer := await platform.gateway.get(page)).body == b"1":
            assert answer.get("X-Cache") == "HIT"
            await asyncio.sleep(0.05)

    assert (answer.body, answer.get("X-Cache")) == (b"2", "MISS")
    assert time.monotonic() - started > 1


async def test_while_one_request_renews_a_copy_others_get_it_for_the_time_that_the_service_allows(
    platform: Any, page: str
) -> None:
    fetches, released = count(1), asyncio.Event()

    async def answer(_request: Received, writer: asyncio.StreamWriter) -> None:
        number = next(fetches)
        if number > 1:
            await released.wait()
        writer.write(reply(body=b"%d" % number, cache_control="public, max-age=1, stale-while-revalidate=60"))

    platform.notes.answer = answer
    assert (await platform.gateway.get(page)).body == b"1"
    renewing: list[asyncio.Task[Any]] = []
    async with asyncio.timeout(60):
        while len(platform.notes.seen()) < 2:
            renewing.append(asyncio.create_task(platform.gateway.get(page)))
            await asyncio.sleep(0.05)

    other = await platform.gateway.get(page)
    # All but the one that renews it: who still were on the way would find the new copy.
    async with asyncio.timeout(60):
        while sum(not request.done() for request in renewing) > 1:
            await asyncio.sleep(0.01)
    released.set()

    assert (other.body, other.get("X-Cache")) == (b"1", "HIT")
    answers = await asyncio.gather(*renewing)
    assert [answer.body for answer in answers].count(b"2") == 1
    assert len(platform.notes.seen()) == 2


async def test_no_old_copy_stands_in_for_a_service_that_is_away(platform: Any, page: str) -> None:
    platform.notes.answer = answering(reply(body=b"old", cache_control="public, max-age=1"))
    assert (await platform.gateway.get(page)).status == 200
    platform.notes.answer = closing

    async with asyncio.timeout(60):
        while (await platform.gateway.get(page)).status == 200:
            await asyncio.sleep(0.05)

    statuses = {(await platform.gateway.get(page)).status for _ in range(5)}
    assert statuses == {502}


async def test_twenty_requests_at_once_fetch_one_answer(platform: Any, page: str) -> None:
    """They wait for each other for a second, so a machine that was busy for as long gets another go."""
    for go in range(5):
        platform.notes.answer = Counting(cache_control=LONG)
        platform.notes.requests.clear()
        began = time.monotonic()
        answers = await asyncio.gather(*(platform.gateway.get(f"{page}-{go}") for _ in range(20)))
        if time.monotonic() - began < 1:
            break

    assert {answer.body for answer in answers} == {b"1"}
    assert len(platform.notes.seen()) == 1


async def test_requests_at_once_for_what_is_not_kept_are_all_answered(platform: Any, page: str) -> None:
    platform.notes.answer = answering(reply(404, cache_control="no-store"))

    answers = await asyncio.gather(*(platform.gateway.get(page) for _ in range(12)))

    assert {answer.status for answer in answers} == {404}
    assert len(platform.notes.seen()) == 12


@pytest.mark.parametrize(
    "condition",
    [
        {"If-None-Match": '"1"'},
        {"If-Modified-Since": "Sat, 21 Nov 2026 00:00:00 GMT"},
        {"Range": "bytes=0-1", "If-Range": '"1"'},
        {"If-Match": '"1"'},
    ],
)
async def test_one_clients_conditions_never_decide_what_all_others_get(
    platform: Any, page: str, condition: dict[str, str]
) -> None:
    platform.notes.answer = Counting(cache_control=LONG, etag='"1"')

    await platform.gateway.get(page, headers=condition)
    other = await platform.gateway.get(page)

    assert not {name.lower() for name in condition} & set(platform.notes.only().headers)
    assert (other.status, other.body, other.get("X-Cache")) == (200, b"1", "HIT")


async def test_a_client_that_has_the_copy_is_told_so(platform: Any, page: str) -> None:
    platform.notes.answer = Counting(cache_control=LONG, etag='"1"')
    await platform.gateway.get(page)

    answer = await platform.gateway.get(page, headers={"If-None-Match": 'W/"1"'})

    assert (answer.status, answer.body, answer.get("X-Cache")) == (304, b"", "HIT")


async def test_head_and_get_share_a_copy(platform: Any, page: str) -> None:
    platform.notes.answer = Counting(cache_control=LONG)

    head = await platform.gateway.send("HEAD", page)
    get = await platform.gateway.get(page)

    assert (head.status, head.body, get.body, get.get("X-Cache")) == (200, b"", b"1", "HIT")
    assert platform.notes.only().method == "GET"


@pytest.mark.parametrize(("one", "other"), [("?a", "?b"), ("?a", "%3Fa"), ("-1", "-2"), ("?a=1&b", "?a=1")])
async def test_two_addresses_never_share_a_copy(platform: Any, page: str, one: str, other: str) -> None:
    platform.notes.answer = Counting(cache_control=LONG)

    answers = [await platform.gateway.get(page + end) for end in (one, other, one, other)]

    assert [answer.body for answer in answers] == [b"1", b"2", b"1", b"2"]


async def test_caches_behind_this_one_learn_how_old_a_copy_is(platform: Any, page: str) -> None:
    moment = "Sat, 21 Nov 2026 00:00:00 GMT"
    platform.notes.answer = answering(reply(cache_control=LONG, date=moment))

    answers = [await platform.gateway.get(page) for _ in range(2)]

    assert [answer.get("Date") for answer in answers] == [moment, moment]
    assert answers[1].get("X-Cache") == "HIT"


@pytest.mark.parametrize("path", ["/api/v1/notes/1", "/api/v1/users/stats/count", "/api/v1/notes/public/a/b"])
async def test_other_routes_have_no_cache_whatever_their_answers_say(platform: Any, path: str) -> None:
    platform.notes.answer = platform.user.answer = Counting(cache_control=LONG)

    answers = [await platform.gateway.get(path) for _ in range(2)]

    assert [answer.body for answer in answers] == [b"1", b"2"]
    assert [answer.get("X-Cache") for answer in answers] == [None, None]


async def test_what_is_no_read_passes_by_the_cache(platform: Any, page: str) -> None:
    platform.notes.answer = Counting(cache_control=LONG)
    await platform.gateway.get(page)

    answer = await platform.gateway.post(page, body=b"x")

    assert (answer.body, answer.get("X-Cache")) == (b"2", None)
