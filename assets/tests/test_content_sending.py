"""Which response a request for content gets: the whole file, parts of it, nothing new, or NGINX's part."""

import re
from email import message_from_bytes
from typing import Any

import httpx2
import pytest
from starlette.requests import Request

from assets.tests.fakes import MemoryByteStore, new_asset
from assets_service.content.ranges import RangeNotSatisfiable
from assets_service.content.sending import ContentSender
from assets_service.records.schemas import AssetOut
from assets_service.storage.interface import BytesMissing
from servicekit.core.errors import PreconditionFailed
from servicekit.web.entity_tags import MalformedCondition

CONTENT = bytes(range(32, 127)) * 100
SIZE = len(CONTENT)
ACCELERATED = {"X-Sendfile-Type": "X-Accel-Redirect"}


@pytest.fixture
def store() -> MemoryByteStore:
    return MemoryByteStore()


@pytest.fixture
async def asset(store: MemoryByteStore) -> AssetOut:
    asset = new_asset(size=SIZE)
    staging = await store.stage(asset.id)
    await staging.write([CONTENT])
    await staging.publish()
    return asset


class Client:
    """Requests content from a sender over ASGI."""

    def __init__(self, store: MemoryByteStore, asset: AssetOut, *, accelerated: bool = False) -> None:
        sender = ContentSender(store, accelerated=accelerated)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            response = await sender.respond(asset, Request(scope, receive))
            await response(scope, receive, send)

        self._http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service")

    async def get(self, method: str = "GET", **headers: str) -> httpx2.Response:
        return await self._http.request(
            method, "/", headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


@pytest.fixture
async def client(store: MemoryByteStore, asset: AssetOut) -> Client:
    return Client(store, asset)


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, None),
        ("bytes=1000-2500", 1000, 2501),
        ("bytes=-7", -7, None),
        ("bytes=9490-99999999", 9490, None),
        ("bytes=0-0,9999999-", 0, 1),
    ],
)
async def test_a_range_gets_that_part(client: Client, header: str, start: int, stop: int | None) -> None:
    response = await client.get(range=header)

    assert response.status_code == 206
    assert response.content == CONTENT[start:stop]
    first = start % SIZE
    assert response.headers["content-range"] == f"bytes {first}-{first + len(response.content) - 1}/{SIZE}"
    assert response.headers["content-length"] == str(len(response.content))


async def test_several_ranges_get_a_body_of_several_parts(client: Client) -> None:
    response = await client.get(range="bytes=10-19, 2000-3500, -5")

    assert response.status_code == 206
    assert response.headers["content-length"] == str(len(response.content))
    content_type = response.headers["content-type"].encode()
    message = message_from_bytes(b"Content-Type: " + content_type + b"\r\n" + response.content)
    parts: list[Any] = list(message.walk())[1:]
    assert [part["Content-Range"] for part in parts] == [
        f"bytes 10-19/{SIZE}",
        f"bytes 2000-3500/{SIZE}",
        f"bytes {SIZE - 5}-{SIZE - 1}/{SIZE}",
    ]
    bodies = re.split(rb"\r\n--[0-9a-f]{32}(?:--)?\r\n", response.content)[1:-1]
    assert [body.partition(b"\r\n\r\n")[2] for body in bodies] == [CONTENT[10:20], CONTENT[2000:3501], CONTENT[-5:]]


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=5-2", "bytes=x", "bytes=", "bytes=-0"])
async def test_a_range_without_bytes_is_refused_with_the_size(client: Client, header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        await client.get(range=header)

    assert refused.value.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("header", ["items=0-1", "bytes=" + ",".join(["0-"] * 9), "bytes=" + ",".join(["0-0"] * 1000)])
async def test_unknown_units_and_wasteful_ranges_get_the_whole_file(client: Client, header: str) -> None:
    response = await client.get(range=header)

    assert (response.status_code, response.content) == (200, CONTENT)


@pytest.mark.parametrize("header", ["{tag}", "W/{tag}", '"x", {tag}', "*"])
async def test_unchanged_content_is_not_sent_again(client: Client, asset: AssetOut, header: str) -> None:
    response = await client.get(if_none_match=header.format(tag=asset.etag))

    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == asset.etag
    assert response.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_none_match": '"other"'}, 200),
        ({"if_match": "{tag}"}, 200),
        ({"if_match": "*"}, 200),
        ({"if_range": "{tag}", "range": "bytes=0-1"}, 206),
        ({"if_range": '"other"', "range": "bytes=0-1"}, 200),
        ({"if_range": "W/{tag}", "range": "bytes=0-1"}, 200),
        ({"if_range": "Sat, 21 Nov 2026 07:00:00 GMT", "range": "bytes=0-1"}, 200),
        ({"if_range": '"other"', "range": "bytes=99999999-"}, 200),
    ],
)
async def test_conditions_decide_what_is_sent(
    client: Client, asset: AssetOut, headers: dict[str, str], status: int
) -> None:
    response = await client.get(**{name: value.format(tag=asset.etag) for name, value in headers.items()})

    assert response.status_code == status


@pytest.mark.parametrize("header", ['"other"', "W/{tag}"])
async def test_content_other_than_expected_is_not_sent(client: Client, asset: AssetOut, header: str) -> None:
    with pytest.raises(PreconditionFailed):
        await client.get(if_match=header.format(tag=asset.etag))


@pytest.mark.parametrize("name", ["if_match", "if_none_match", "if_range"])
@pytest.mark.parametrize("header", ["{bare}", "W/{bare}", '"{bare}', "", '"x" {tag}', "w/{tag}", "'{bare}'"])
async def test_a_malformed_condition_is_refused(client: Client, asset: AssetOut, name: str, header: str) -> None:
    value = header.format(tag=asset.etag, bare=asset.etag.strip('"'))

    with pytest.raises(MalformedCondition):
        await client.get(range="bytes=0-1", **{name: value})


@pytest.mark.parametrize("header", ["*", '{tag}, "x"'])
async def test_a_range_depends_on_one_tag(client: Client, asset: AssetOut, header: str) -> None:
    with pytest.raises(MalformedCondition):
        await client.get(range="bytes=0-1", if_range=header.format(tag=asset.etag))


@pytest.mark.parametrize("date", ["Sat, 21 Nov 2026 07:00:00 GMT", "no date", "", "Thu, 01 Jan 1970 00:00:00 GMT"])
@pytest.mark.parametrize("name", ["if_modified_since", "if_unmodified_since"])
async def test_conditions_on_a_date_are_ignored(client: Client, name: str, date: str) -> None:
    response = await client.get(**{name: date})

    assert response.status_code == 200


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-1,5-6"}])
async def test_missing_bytes_are_an_error_before_the_response_begins(
    client: Client, store: MemoryByteStore, headers: dict[str, str]
) -> None:
    store.objects.clear()

    with pytest.raises(BytesMissing):
        await client.get(**headers)


async def test_only_the_gateway_is_told_where_the_bytes_are(store: MemoryByteStore, asset: AssetOut) -> None:
    client = Client(store, asset, accelerated=True)

    forwarded = await client.get(**ACCELERATED)
    assert forwarded.headers["x-accel-redirect"] == f"/-/files/{asset.id}"
    assert forwarded.content == b""
    # NGINX adds this header itself.
    assert "accept-ranges" not in forwarded.headers

    direct = await client.get()
    assert direct.content == CONTENT
    assert "x-accel-redirect" not in direct.headers
    # NGINX cannot compare the entity tag.
    assert (await client.get(**ACCELERATED, if_match="*")).content == CONTENT
    # Nor does it read numbers beyond 64 bits.
    for last, streamed in ((2**63 - 2, False), (2**63 - 1, False), (2**63, True), (10**100, True)):
        part = await client.get(**ACCELERATED, range=f"bytes=1-{last}")
        assert part.content == (CONTENT[1:] if streamed else b"")
    with pytest.raises(RangeNotSatisfiable):
        await client.get(**ACCELERATED, range="bytes=99999-")


async def test_without_the_setting_the_gateway_gets_the_content(client: Client) -> None:
    assert (await client.get(**ACCELERATED)).content == CONTENT


async def test_bytes_without_a_location_are_streamed(
    store: MemoryByteStore, asset: AssetOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "location", lambda _asset_id: None)

    assert (await Client(store, asset, accelerated=True).get(**ACCELERATED)).content == CONTENT
