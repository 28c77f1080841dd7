"""Values that generators do not produce and no honest client sends, in every field and parameter of every route.

Each is refused or treated as plain data. No response is a server error, and every error is a problem document.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from opskit.catalog import read_catalog

SERVICES = list(read_catalog())
# A request without a body ends the session or deletes the account.
LOGOUT = "POST /api/v1/users/logout"
OPTIONAL_BODIES = (LOGOUT, "POST /api/v1/users/verification")
DELETION = "DELETE /api/v1/users/profile"

# Only a field that takes any value may take these.
NOWHERE_VALID = {
    "an operator": '{"$gt": ""}',
    "code": '{"$where": "sleep(10000) || true"}',
    "a deep array": "[" * 3000 + "]" * 3000,
    "a deep object": '{"a":' * 3000 + "1" + "}" * 3000,
    "not a number": "NaN",
    "infinity": "1e999",
    "a huge integer": "9" * 5000,
    "an integer beyond 64 bits": str(2**64),
}
SOMEWHERE_VALID = {
    "NUL": '"a\\u0000b"',
    "a lone surrogate": '"\\ud800"',
    "surrogates the wrong way round": '"\\udc00\\ud800"',
    "a very long text": '"' + "x" * 100_000 + '"',
    "direction marks": '"\\u202e\\u2066"',
    "null": "null",
    "a boolean": "true",
    "an empty text": '""',
    "quotes": """"'; DROP TABLE users; --\\"\\\\" """,
    "a name of Python": '{"__class__": "__init__"}',
    "a key with NUL": '{"a\\u0000b": 1}',
    "a key that is no Unicode": '{"\\udfff": 1}',
    "keys of MongoDB": '{"$set": {"a.b": 1}, "": 1, "_id": 1}',
    "a hundred and fifty levels": '{"a":' * 150 + "1" + "}" * 150,
}


async def test_no_value_in_any_field_of_a_body_causes_a_server_error(target: Any) -> None:
    await target.expect_no_failures(
        target.send(
            operation,
            f"{what} in {body[:80]}",
            refused=what in NOWHERE_VALID and not anything,
            content=body.encode(),
            headers={"Content-Type": "application/json", "If-Match": "*"},
        )
        for operation in target.operations
        if operation.body is not None
        for what, value in (NOWHERE_VALID | SOMEWHERE_VALID).items()
        for body, anything in target.document.variants(operation.body, value)
    )


BROKEN_BODIES = {
    "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "an overlong NUL": b'{"a": "\xc0\x80"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf{}x",
    "an empty body": b"",
    "a space": b" ",
    "half an object": b'{"a": ',
    "two values": b"{} {}",
    "a number": b"1",
    "an array": b"[]",
    "100,000 brackets": b"[" * 100_000,
    "binary zeros": b"\0" * 1000,
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "a comment": b"/* */ {}",
}


async def test_a_body_that_is_not_json_is_refused(target: Any) -> None:
    await target.expect_no_failures(
        target.send(
            operation,
            what,
            refused=operation.label not in OPTIONAL_BODIES,
            content=body,
            headers={"Content-Type": "application/json", "If-Match": "*"},
        )
        for operation in target.operations
        if operation.body is not None
        for what, body in BROKEN_BODIES.items()
    )


CONTENT_TYPES = ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
CONTENT_TYPES += [
    "multipart/form-data; boundary=" + "x" * 5000,
    "application/json; charset=utf-7",
    ";",
    "a/b/c",
    "\xff",
]


async def test_no_content_type_causes_a_server_error(target: Any) -> None:
    await target.expect_no_failures(
        target.send(
            operation, content_type, content=b"--x\r\n\r\n{}", headers={"Content-Type": content_type.encode("latin-1")}
        )
        for operation in target.operations
        if operation.method in ("POST", "PUT", "PATCH")
        for content_type in CONTENT_TYPES
    )


async def test_no_duplicate_key_gets_around_validation(target: Any) -> None:
    await target.expect_no_failures(
        target.send(
            operation,
            body[:80],
            refused=True,
            content=body.encode(),
            headers={"Content-Type": "application/json", "If-Match": "*"},
        )
        for operation in target.operations
        if operation.body is not None
        for body in (_doubled(target.document, operation.body),)
        if body
    )


def _doubled(document: Any, schema: Mapping[str, Any]) -> str:
    """Return a valid body in which each field occurs a second time, with an invalid value."""
    valid = document.sample(schema)
    fields = json.loads(valid)
    return valid[:-1] + "".join(f', {json.dumps(name)}: {{"$gt": ""}}' for name in fields) + "}" if fields else ""


IN_URLS = ["%00", "a%00b", "%ff%fe", "%ed%a0%80", "%0d%0aX-Evil:1", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "9" * 5000]
IN_URLS += [
    "%7b%22%24gt%22%3a%22%22%7d",
    "-1",
    "1e999",
    "%27%20OR%201=1--",
    "%e2%80%ae",
    "NaN",
    "",
    "0001-01-01T00:00:00Z",
]
IN_URLS += ["9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59", "{{7*7}}", "%25%30%30", "x" * 5000]


async def test_no_text_in_a_path_or_a_query_causes_a_server_error(target: Any) -> None:
    await target.expect_no_failures(
        target.send(operation, f"{name}={text[:60]}", url=url)
        for operation in target.operations
        for text in IN_URLS
        # A slash in the only place of a path makes it the path of no route.
        if not (operation.sealed and "%2f" in text)
        for name, url in _addresses(operation, text)
    )


def _addresses(operation: Any, text: str) -> Iterable[tuple[str, str]]:
    for name in operation.names("path"):
        # An empty parameter would make it another route.
        if text:
            yield name, operation.path.replace(f"{{{name}}}", text)
    for name in operation.names("query"):
        yield name, f"{operation.path}?{name}={text}"
        yield f"{name}[$gt]", f"{operation.path}?{name}[$gt]={text}&{name}={text}&{name}=x"


IN_HEADERS = ["\xff\xfe", "x" * 6000, "a,b;c=d", '"', "W/", '"1-1", W/"', "9" * 5000, "bytes=0-0,1-1,2-2", "-", "%00"]
IN_HEADERS += [
    '{"$gt": ""}',
    "Bearer",
    "Bearer ..",
    "Bearer a.b.c",
    "Basic Og==",
    "bytes=99999999999999999999-",
    "../etc/passwd",
]
HEADERS = [
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Range",
    "Idempotency-Key",
    "X-Filename",
    "Accept",
    "Accept-Encoding",
]
HEADERS += [
    "X-Request-Id",
    "X-Correlation-Id",
    "Traceparent",
    "Tracestate",
    "X-Real-IP",
    "User-Agent",
    "Cookie",
    "Origin",
]
SEALED = ["X-Service-Envelope", "X-Service-Name", "X-Service-Nonce"]
HEADER_SETS: list[tuple[list[str], dict[str, str]]] = [
    (["Authorization"], {}),
    (HEADERS, {}),
    (["X-Request-Deadline-Ms"], {}),
    (SEALED, {"X-Service-Communication": "encrypted"}),
    (SEALED, {"X-Encrypt-Response": "true"}),
]


async def test_no_header_causes_a_server_error(target: Any) -> None:
    await target.expect_no_failures(
        target.send(
            operation,
            f"{names[0]}: {value[:40]}",
            headers={**marks, **dict.fromkeys(names, value.encode("latin-1"))},
        )
        for operation in target.operations
        if operation.label not in (LOGOUT, DELETION)
        for names, marks in HEADER_SETS
        for value in IN_HEADERS
    )


def _cursors() -> Iterable[tuple[str, str]]:
    moment, identifier = "2026-01-01T00:00:00Z", str(uuid4())
    positions: list[Any] = [
        None,
        1,
        "",
        {},
        [],
        {"$gt": ""},
        [moment],
        [moment, {"$gt": ""}],
        [{"$gt": ""}, identifier],
    ]
    positions += [[moment, identifier, 1], [moment, "x"], ["x", identifier], [moment, 2**70], [2**70, identifier]]
    positions += [[None, None], [True, False], ["0000-00-00T00:00:00Z", identifier], [[[moment]], identifier]]
    for position in positions:
        text = json.dumps(position)
        yield text, base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    yield "NUL", base64.urlsafe_b64encode(b'["a\\u0000", "b"]').decode()
    yield "a lone surrogate", base64.urlsafe_b64encode(b'["\\ud800", "b"]').decode()
    yield "deep", base64.urlsafe_b64encode(b"[" * 370).decode()
    yield "a huge number", base64.urlsafe_b64encode(b"[" + b"9" * 300 + b"]").decode()
    yield "invalid UTF-8", base64.urlsafe_b64encode(b'["\xff"]').decode()
    yield "no base64", "a.b"
    yield "one character", "A"
    yield "beyond ASCII", "ü"
    yield "too long", "QUJD" * 1000


async def test_a_forged_cursor_is_refused(target: Any) -> None:
    lists = [operation for operation in target.operations if "cursor" in operation.names("query")]
    assert lists

    await target.expect_no_failures(
        target.send(operation, what, refused=True, params={"cursor": cursor})
        for operation in lists
        for what, cursor in _cursors()
    )


@pytest.mark.parametrize("service", SERVICES)
async def test_the_gateway_refuses_requests_that_are_too_large_or_internal(
    running: Any, gateway: httpx2.AsyncClient, service: str
) -> None:
    path = f"/api/v1/{read_catalog()[service].prefix}"
    giant = await gateway.get(path, headers={"X-Giant": "x" * 100_000})
    many = await gateway.get(path, headers=[(f"X-{number}", "x" * 1000) for number in range(100)])
    long = await gateway.get(path + "?q=" + "x" * 60_000)
    internal = [await gateway.post(f"{prefix}/internal/facts") for prefix in ("", path, "/api/v1", path + "/..")]

    assert [giant.status_code, many.status_code, long.status_code] == [431, 431, 414]
    for response in (giant, many, long, *internal):
        assert 400 <= response.status_code < 500
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json().keys() >= {"type", "title", "status", "detail", "instance", "request_id"}
