"""The edge cache: which responses it keeps, who gets a copy, and for how long."""

import asyncio
import time
from itertools import count

import pytest

from gateway_config.testing.client import Response
from gateway_config.testing.harness import Platform
from servicekit.testing.wire_server import Received, closing, reply, responding
from servicekit.web.entity_tags import MalformedCondition

pytestmark = pytest.mark.servers

LONG = "public, max-age=60"
_slugs = count(1)


@pytest.fixture
def page() -> str:
    """The path of a published note that no other test requests."""
    return f"/api/v1/notes/public/slug-{next(_slugs)}"


class Counting:
    """Responds to each request with its number."""

    def __init__(self, **headers: str) -> None:
        self._headers = headers
        self._numbers = count(1)

    async def __call__(self, _request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(body=str(next(self._numbers)).encode(), **self._headers))


async def test_a_public_response_is_kept_for_all_clients(platform: Platform, page: str) -> None:
    platform.notes.respond = Counting(cache_control=LONG, content_type="text/plain", etag='"1"')

    responses = [
        await platform.gateway.get(page, headers=headers) for headers in ({}, {"Cookie": "a=b"}, {"X-Any": "x"})
    ]

    assert [response.body for response in responses] == [b"1", b"1", b"1"]
    assert [response.get("X-Cache") for response in responses] == ["MISS", "HIT", "HIT"]
    assert [response.get("Cache-Control") for response in responses] == [LONG] * 3
    assert {response.get("ETag") for response in responses} == {'"1"'}
    assert len({response.get("X-Request-Id") for response in responses}) == 3
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
async def test_a_response_not_marked_public_is_not_kept(platform: Platform, page: str, headers: dict[str, str]) -> None:
    platform.notes.respond = Counting(**headers)

    responses = [await platform.gateway.get(page) for _ in range(2)]

    assert [response.body for response in responses] == [b"1", b"2"]
    assert [response.get("X-Cache") for response in responses] == ["MISS", "MISS"]


@pytest.mark.parametrize("credentials", ["Bearer a.b.c", "Basic YTpi", "0"])
async def test_a_request_with_credentials_gets_no_copy_and_leaves_none(
    platform: Platform, page: str, credentials: str
) -> None:
    platform.notes.respond = Counting(cache_control=LONG)
    authorized = {"Authorization": credentials}

    first = await platform.gateway.get(page, headers=authorized)
    second = await platform.gateway.get(page)
    third = await platform.gateway.get(page, headers=authorized)
    fourth = await platform.gateway.get(page)

    responses = (first, second, third, fourth)
    assert [(response.body, response.get("X-Cache")) for response in responses] == [
        (b"1", "BYPASS"),
        (b"2", "MISS"),
        (b"3", "BYPASS"),
        (b"2", "HIT"),
    ]
    assert all("authorization" not in request.headers for request in platform.notes.seen())


async def test_a_copy_expires(platform: Platform, page: str) -> None:
    """The request that renews it gets the new response, although others may still get the stale copy meanwhile."""
    platform.notes.respond = Counting(cache_control="public, max-age=1, stale-while-revalidate=60")
    started = time.monotonic()
    assert (await platform.gateway.get(page)).body == b"1"

    async with asyncio.timeout(60):
        while (response := await platform.gateway.get(page)).body == b"1":
            assert response.get("X-Cache") == "HIT"
            await asyncio.sleep(0.05)

    assert (response.body, response.get("X-Cache")) == (b"2", "MISS")
    assert time.monotonic() - started > 1


async def test_while_one_request_renews_a_copy_others_get_the_stale_one(platform: Platform, page: str) -> None:
    fetches, released = count(1), asyncio.Event()

    async def held(_request: Received, writer: asyncio.StreamWriter) -> None:
        number = next(fetches)
        if number > 1:
            await released.wait()
        writer.write(reply(body=b"%d" % number, cache_control="public, max-age=1, stale-while-revalidate=60"))

    platform.notes.respond = held
    assert (await platform.gateway.get(page)).body == b"1"
    renewing: list[asyncio.Task[Response]] = []
    async with asyncio.timeout(60):
        while len(platform.notes.seen()) < 2:
            renewing.append(asyncio.create_task(platform.gateway.get(page)))
            await asyncio.sleep(0.05)

    other = await platform.gateway.get(page)
    # Wait for all but the one that renews the copy; a later one would find the new copy.
    async with asyncio.timeout(60):
        while sum(not request.done() for request in renewing) > 1:
            await asyncio.sleep(0.01)
    released.set()

    assert (other.body, other.get("X-Cache")) == (b"1", "HIT")
    responses = await asyncio.gather(*renewing)
    assert [response.body for response in responses].count(b"2") == 1
    assert len(platform.notes.seen()) == 2


async def test_no_expired_copy_replaces_an_unavailable_service(platform: Platform, page: str) -> None:
    platform.notes.respond = responding(reply(body=b"expired", cache_control="public, max-age=1"))
    assert (await platform.gateway.get(page)).status == 200
    platform.notes.respond = closing

    async with asyncio.timeout(60):
        while (await platform.gateway.get(page)).status == 200:
            await asyncio.sleep(0.05)

    statuses = {(await platform.gateway.get(page)).status for _ in range(5)}
    assert statuses == {502}


async def test_simultaneous_requests_fetch_one_response(platform: Platform, page: str) -> None:
    """Requests wait for each other for a second, so a machine that was busy for longer repeats the measurement."""
    for attempt in range(5):
        platform.notes.respond = Counting(cache_control=LONG)
        platform.notes.requests.clear()
        began = time.monotonic()
        responses = await asyncio.gather(*(platform.gateway.get(f"{page}-{attempt}") for _ in range(20)))
        if time.monotonic() - began < 1:
            break

    assert {response.body for response in responses} == {b"1"}
    assert len(platform.notes.seen()) == 1


async def test_simultaneous_requests_for_an_uncacheable_page_all_get_a_response(platform: Platform, page: str) -> None:
    platform.notes.respond = responding(reply(404, cache_control="no-store"))

    responses = await asyncio.gather(*(platform.gateway.get(page) for _ in range(12)))

    assert {response.status for response in responses} == {404}
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
async def test_the_conditions_of_one_client_do_not_affect_others(
    platform: Platform, page: str, condition: dict[str, str]
) -> None:
    platform.notes.respond = Counting(cache_control=LONG, etag='"1"')

    await platform.gateway.get(page, headers=condition)
    other = await platform.gateway.get(page)

    assert not {name.lower() for name in condition} & set(platform.notes.only().headers)
    assert (other.status, other.body, other.get("X-Cache")) == (200, b"1", "HIT")


async def test_a_client_that_has_the_copy_gets_304(platform: Platform, page: str) -> None:
    platform.notes.respond = Counting(cache_control=LONG, etag='"1"')
    await platform.gateway.get(page)

    response = await platform.gateway.get(page, headers={"If-None-Match": 'W/"1"'})

    assert (response.status, response.body, response.get("X-Cache")) == (304, b"", "HIT")


async def test_head_and_get_share_a_copy(platform: Platform, page: str) -> None:
    platform.notes.respond = Counting(cache_control=LONG)

    head = await platform.gateway.send("HEAD", page)
    get = await platform.gateway.get(page)

    assert (head.status, head.body, get.body, get.get("X-Cache")) == (200, b"", b"1", "HIT")
    assert platform.notes.only().method == "GET"


@pytest.mark.parametrize(("one", "other"), [("?a", "?b"), ("?a", "%3Fa"), ("-1", "-2"), ("?a=1&b", "?a=1")])
async def test_two_urls_never_share_a_copy(platform: Platform, page: str, one: str, other: str) -> None:
    platform.notes.respond = Counting(cache_control=LONG)

    responses = [await platform.gateway.get(page + end) for end in (one, other, one, other)]

    assert [response.body for response in responses] == [b"1", b"2", b"1", b"2"]


async def test_a_copy_keeps_its_date_for_downstream_caches(platform: Platform, page: str) -> None:
    moment = "Sat, 21 Nov 2026 00:00:00 GMT"
    platform.notes.respond = responding(reply(cache_control=LONG, date=moment))

    responses = [await platform.gateway.get(page) for _ in range(2)]

    assert [response.get("Date") for response in responses] == [moment, moment]
    assert responses[1].get("X-Cache") == "HIT"


@pytest.mark.parametrize("path", ["/api/v1/notes/1", "/api/v1/users/stats/count", "/api/v1/notes/public/a/b"])
async def test_other_routes_have_no_cache(platform: Platform, path: str) -> None:
    platform.notes.respond = platform.user.respond = Counting(cache_control=LONG)

    responses = [await platform.gateway.get(path) for _ in range(2)]

    assert [response.body for response in responses] == [b"1", b"2"]
    assert [response.get("X-Cache") for response in responses] == [None, None]


async def test_a_post_bypasses_the_cache(platform: Platform, page: str) -> None:
    platform.notes.respond = Counting(cache_control=LONG)
    await platform.gateway.get(page)

    response = await platform.gateway.post(page, body=b"x")

    assert (response.body, response.get("X-Cache")) == (b"2", None)


SHARED = ("ETag", "Vary", "Cache-Control")
ENCODINGS = ["", "gzip", "br, gzip;q=0.5", "identity", "*"]


def _shared(response: Response) -> dict[str, list[str]]:
    return {name: response.all(name) for name in SHARED}


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["none", "gzip", "several", "identity", "any"])
@pytest.mark.parametrize("body", [b"short", b"long" * 1000], ids=["short", "long"])
@pytest.mark.parametrize("tag", ['"1"', 'W/"1"'], ids=["strong", "weak"])
async def test_a_304_has_the_headers_of_its_200(
    platform: Platform, page: str, tag: str, body: bytes, encoding: str
) -> None:
    """RFC 9110, section 15.4.5: from the cache, past it, and with the service's own 304."""
    accept = {"Accept-Encoding": encoding} if encoding else {}
    current = reply(body=body, content_type="application/json", etag=tag, cache_control=LONG)
    unchanged = reply(304, etag=tag, cache_control=LONG).replace(b"content-length: 0\r\n", b"")

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(unchanged if "if-none-match" in request.headers else current)

    platform.notes.respond = respond
    for path in (page, "/api/v1/notes/1"):
        first = await platform.gateway.get(path, headers=accept)
        assert first.status == 200
        known = first.get("ETag") or ""
        if encoding == "gzip" and len(body) > 1000:
            assert (known, first.get("Content-Encoding")) == ('W/"1"', "gzip")
        assert "Accept-Encoding" in first.all("Vary")
        for validator in (known, '"1"', 'W/"1"', "*"):
            for method in ("GET", "HEAD"):
                for credentials in ({}, {"Authorization": ""}, {"Authorization": f"Bearer {platform.gateway.token}"}):
                    headers = {**accept, **credentials, "If-None-Match": validator}
                    repeated = await platform.gateway.send(method, path, headers=headers)
                    if validator == "*" and path == page:
                        # NGINX knows no `*` for its copies.
                        assert repeated.status in (200, 304)
                    else:
                        assert repeated.status == 304
                    assert _shared(repeated) == _shared(first)
        assert _shared(await platform.gateway.send("HEAD", path, headers=accept)) == _shared(first)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["none", "gzip", "several", "identity", "any"])
@pytest.mark.parametrize("path", ["/docs", "/docs/static/page.js", "/docs/swagger-ui/swagger-ui.css"])
async def test_a_304_of_a_static_file_has_the_headers_of_its_200(platform: Platform, path: str, encoding: str) -> None:
    accept = {"Accept-Encoding": encoding} if encoding else {}
    first = await platform.gateway.get(path, headers=accept)
    assert first.status == 200

    for method in ("GET", "HEAD"):
        headers = {**accept, "If-None-Match": first.get("ETag") or ""}
        repeated = await platform.gateway.send(method, path, headers=headers)
        assert (repeated.status, _shared(repeated)) == (304, _shared(first))


async def test_a_response_without_a_tag_gets_none(platform: Platform) -> None:
    for path in ("/api/v1/notes", "/api/v1/assets/1/content", "/gateway-health", "/nowhere", "/api/v1/assets"):
        assert (await platform.gateway.get(path, headers={"Accept-Encoding": "gzip"})).get("ETag") is None


@pytest.mark.parametrize("tag", ["1", "W/1", '"1', '"1" "2"', 'w/"1"', '"1", *', ","])
async def test_a_malformed_condition_is_refused_whether_or_not_there_is_a_copy(
    platform: Platform, page: str, tag: str
) -> None:
    platform.notes.respond = Counting(cache_control=LONG, etag='"1"')

    for _ in range(2):
        refused = await platform.gateway.get(page, headers={"If-None-Match": tag})
        assert (refused.status, refused.problem()["type"]) == (400, MalformedCondition.type)
        assert "double quotes" in refused.problem()["detail"]
        await platform.gateway.get(page)


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', '"x", "1"', "*", ' , "1" ,'])
async def test_a_condition_that_names_the_copy_gets_304(platform: Platform, page: str, tag: str) -> None:
    platform.notes.respond = Counting(cache_control=LONG, etag='"1"')
    await platform.gateway.get(page)

    assert (await platform.gateway.get(page, headers={"If-None-Match": tag})).status == 304
