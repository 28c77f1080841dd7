"""JSON bodies are parsed strictly, and no number of faults in one costs much."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, FastAPI
from pydantic import FailFast, Field

from servicekit.core.errors import MAX_ERRORS, UnprocessableContent
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.error_handlers import add_error_handlers
from servicekit.web.json_body import InvalidJson, RequestBody, parse_json

MAX = 100


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[1,]",
        b"nul",
        b"{'a': 1}",
        b'{"a": NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"1e400",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": 1} {"a": 1}',
        b'"a\nb"',
        b'"\\"',
        b'"\\',
        b"\x00",
    ],
)
def test_what_is_not_json_in_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        parse_json(body, MAX)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "x"]}', {"a": [1, 2.5, None, True, "x"]}),
        (b'\xef\xbb\xbf"a"', "a"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"a\\"[,{\\\\"', 'a"[,{\\'),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"0.12345678901234567890123", 0.12345678901234567890123),
        (b"12345678901234567890123.0", 12345678901234567890123.0),
        (b"1e100", 1e100),
    ],
)
def test_json_is_taken(body: bytes, value: Any) -> None:
    assert parse_json(body, MAX) == value


@pytest.mark.parametrize("number", [str(2**64), str(-(2**63) - 1), "2" + "0" * 19, "-" + "9" * 300, "9" * 5000])
@pytest.mark.parametrize("around", ["{}", "[{}]", '{{"a": {}, "b": 1}}', '["12", {}, 0.5]'])
def test_an_integer_that_would_be_rounded_is_refused(number: str, around: str) -> None:
    with pytest.raises(UnprocessableContent) as refusal:
        parse_json(around.format(number).encode(), MAX)

    assert refusal.value.members["errors"] == [{"field": "body", "message": "integers must fit into 64 bits"}]


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"0," * MAX + b"0]",
        b"[" + b'"",' * MAX + b'""]',
        b"[" + b"{}," * MAX + b"{}]",
        b"[" * (MAX + 1) + b"]" * (MAX + 1),
        b'{"a":' * (MAX + 1) + b"1" + b"}" * (MAX + 1),
        b"{" + b",".join(b'"%d":0' % number for number in range(MAX + 1)) + b"}",
        b"," * MAX * 2,
        b'"' * MAX * 8,
    ],
    ids=["numbers", "strings", "objects", "nested lists", "nested objects", "names", "commas", "quotes"],
)
def test_more_values_than_the_route_takes_are_refused_before_they_are_parsed(body: bytes) -> None:
    with pytest.raises(UnprocessableContent) as refusal:
        parse_json(body, MAX)

    assert refusal.value.members["errors"] == [{"field": "body", "message": "must not have more than 100 values"}]


@pytest.mark.parametrize("text", ["," * 1000, "[{" * 1000, '\\"' * 1000, "\\\\" * 1000, '\\",[' * 1000])
def test_what_stands_in_strings_is_not_counted(text: str) -> None:
    parse_json(f'{{"body": "{text}", "12345678901234567890123": "98765432109876543210987"}}'.encode(), MAX)


class Part(RequestBody):
    name: Annotated[str, Field(min_length=1)]


class Parcel(RequestBody):
    weight: int
    parts: Annotated[list[Part], FailFast()] = Field(default_factory=list, max_length=3)


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    router = APIRouter(route_class=route_with_body_limit(1024 * 1024, max_values=100_000))

    @router.post("/")
    async def send(parcel: Parcel) -> Parcel:
        return parcel

    @router.post("/either")
    async def either(body: Annotated[Parcel | Part, Body()]) -> None: ...

    app = FastAPI()
    add_error_handlers(app)
    app.include_router(router)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        yield client


async def errors_of(client: httpx2.AsyncClient, body: Any, path: str = "/") -> list[dict[str, str]]:
    response = await client.post(path, json=body)
    assert response.status_code == 422
    assert response.json()["type"] == UnprocessableContent.type
    errors: list[dict[str, str]] = response.json()["errors"]
    return errors


UNKNOWN = dict.fromkeys((f"unknown{number}" for number in range(50_000)), 0)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (UNKNOWN, "body"),
        ({"weight": 1, **UNKNOWN}, "body"),
        ({"weight": 1, "parts": [UNKNOWN]}, "body.parts.0"),
    ],
    ids=["unknown alone", "beside a known one", "inside"],
)
async def test_the_first_unknown_fields_are_named(client: httpx2.AsyncClient, body: Any, place: str) -> None:
    assert await errors_of(client, body) == [
        {"field": f"{place}.unknown{number}", "message": "is not a known field"} for number in range(MAX_ERRORS)
    ]


@pytest.mark.parametrize("parts", [[0] * 50_000, [{}] * 40_000, [{"name": ""}] * 20_000, [None, {"name": "a"}]])
async def test_a_list_is_refused_at_its_first_fault(client: httpx2.AsyncClient, parts: list[Any]) -> None:
    errors = await errors_of(client, {"weight": 1, "parts": parts})

    assert len(errors) == 1
    assert errors[0]["field"].startswith("body.parts.0")


async def test_a_list_is_refused_at_the_first_item_too_many(client: httpx2.AsyncClient) -> None:
    errors = await errors_of(client, {"weight": 1, "parts": [{"name": "a"}] * 20_000})

    assert errors == [{"field": "body.parts", "message": "must have at most 3 items"}]


async def test_a_long_name_is_shortened(client: httpx2.AsyncClient) -> None:
    errors = await errors_of(client, {"n" * 500_000: 1})

    assert errors == [{"field": f"body.{'n' * 64}…", "message": "is not a known field"}]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("body.weight", "is required")]),
        ({"weight": "heavy"}, [("body.weight", "must be an integer")]),
        ({"weight": 1, "parts": [{"name": ""}]}, [("body.parts.0.name", "must have at least 1 characters")]),
        ({"weight": 1, "parts": [{}]}, [("body.parts.0.name", "is required")]),
        ({"weight": 1, "parts": {}}, [("body.parts", "must be a list")]),
        ([], [("body", "must be an object")]),
        ("text", [("body", "must be an object")]),
    ],
)
async def test_faults_are_told_by_the_client_s_own_paths(
    client: httpx2.AsyncClient, body: Any, errors: list[tuple[str, str]]
) -> None:
    assert [(error["field"], error["message"]) for error in await errors_of(client, body)] == errors


async def test_the_members_of_a_union_do_not_show(client: httpx2.AsyncClient) -> None:
    errors = await errors_of(client, {"weight": "heavy", "name": ""}, "/either")

    assert {error["field"] for error in errors} <= {"body.weight", "body.name"}


async def test_a_missing_body_is_told(client: httpx2.AsyncClient) -> None:
    response = await client.post("/")

    assert response.json()["errors"] == [{"field": "body", "message": "is required"}]
