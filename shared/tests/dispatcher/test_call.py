"""What the dispatcher agrees to send: nothing that means something else on the wire than in the code."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from servicekit.dispatcher import InvalidCall
from servicekit.dispatcher.call import Call, build_call


def build(path: str = "/x", **parts: Any) -> Call:
    given: dict[str, Any] = {
        "method": "GET",
        "params": None,
        "headers": None,
        "json": None,
        "content": None,
        "idempotency_key": None,
    }
    return build_call(path, **(given | parts))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/users/0192",
        "/a/b/",
        "/a%20b",
        "/a;b=c,d",
        "/~user/@me/(x)!*'$&+:=",
        "/.well-known/jwks.json",
        "/...",
    ],
)
def test_path_goes_out_as_it_is(path: str) -> None:
    assert build(path).target == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        "http://elsewhere/",
        "//elsewhere/x",
        "/x HTTP/1.1\r\nX-Admin: 1",
        "/x\r\n\r\nGET /admin HTTP/1.1",
        "/x\n",
        "/x\x00",
        "/x\t",
        "/a b",
        "/x?admin=1",
        "/x#y",
        "/é",
        "/a\\b",
        "/100%",
        "/%zz",
        "/users/../admin",
        "/users/..",
        "/users/./x",
        "/users/%2e%2E/admin",
        "/users/.%2e",
    ],
)
def test_path_that_means_something_else_on_the_wire_is_refused(path: str) -> None:
    with pytest.raises(InvalidCall):
        build(path)


def test_parameters_arrive_with_any_content() -> None:
    params = {"q": "a&b=c d/é?#\r\n", "tag": ["x", "y z"], "limit": 5, "deep": True, "r": 0.5}

    target = build("/x", params=params).target

    assert parse_qs(urlsplit(target).query) == {
        "q": ["a&b=c d/é?#\r\n"],
        "tag": ["x", "y z"],
        "limit": ["5"],
        "deep": ["true"],
        "r": ["0.5"],
    }
    assert target.isprintable()
    assert " " not in target


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "1\r\nX-Admin: 1"),
        ("X-A", "1\n"),
        ("X-A", "1\r"),
        ("X-A", "1\x00"),
        ("X-A", "é"),
        ("X-A\r\nX-Admin", "1"),
        ("X A", "1"),
        ("X:A", "1"),
        ("", "1"),
    ],
)
def test_header_injection_is_refused_and_the_error_omits_the_value(name: str, value: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        build(headers={name: value})

    assert "Admin: 1" not in str(caught.value) or name != "X-A"


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Expect",
        "X-Request-Id",
        "X-Correlation-Id",
        "X-Request-Deadline-Ms",
        "traceparent",
        "x-service-name",
        "X-SERVICE-COMMUNICATION",
        "X-Service-Envelope",
        "X-Service-Nonce",
        "X-Encrypt-Response",
    ],
)
def test_headers_that_the_dispatcher_sets_cannot_be_set_by_callers(name: str) -> None:
    with pytest.raises(InvalidCall):
        build(headers={name: "1"})


def test_other_headers_go_out() -> None:
    call = build(headers={"If-None-Match": '"1"', "Authorization": "Bearer x", "X-Filename": "a%20b"})

    assert call.headers == {"if-none-match": '"1"', "authorization": "Bearer x", "x-filename": "a%20b"}


@pytest.mark.parametrize("method", ["get", "TRACE", "CONNECT", "OPTIONS", "", "GET /x HTTP/1.1\r\nX-A:"])
def test_unknown_method_is_refused(method: str) -> None:
    with pytest.raises(InvalidCall):
        build(method=method)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_methods_without_a_body_refuse_one(method: str) -> None:
    with pytest.raises(InvalidCall):
        build(method=method, json={"a": 1})
    with pytest.raises(InvalidCall):
        build(method=method, content=b"x")


def test_body_is_json_or_bytes_and_says_which() -> None:
    assert build(method="POST").headers == {}
    as_json = build(method="POST", json={"a": "é"})
    assert (as_json.body, as_json.headers) == ('{"a":"é"}'.encode(), {"content-type": "application/json"})
    as_bytes = build(method="PUT", content=b"\x00")
    assert (as_bytes.body, as_bytes.headers) == (b"\x00", {"content-type": "application/octet-stream"})
    named = build(method="PUT", content=b"a,b", headers={"Content-Type": "text/csv"})
    assert named.headers == {"content-type": "text/csv"}
    with pytest.raises(InvalidCall):
        build(method="POST", json={}, content=b"x")


@pytest.mark.parametrize("key", ["", " ", " a", "a ", "a\n", "é", "x" * 256, "a\x7f"])
def test_invalid_idempotency_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidCall):
        build(method="POST", idempotency_key=key)


def test_idempotency_key_may_stand_among_the_headers() -> None:
    call = build(method="POST", headers={"Idempotency-Key": "mine"})
    assert (call.headers, call.repeatable) == ({"idempotency-key": "mine"}, True)

    with pytest.raises(InvalidCall):
        build(method="POST", headers={"Idempotency-Key": " "})
    with pytest.raises(InvalidCall):
        build(method="POST", headers={"Idempotency-Key": "mine"}, idempotency_key="another")


def test_idempotency_key_is_the_given_one_or_a_new_one() -> None:
    assert build(method="POST", idempotency_key="x" * 255).headers == {"idempotency-key": "x" * 255}
    made = {build(method="POST", idempotency_key=True).headers["idempotency-key"] for _ in range(100)}
    assert len(made) == 100


@pytest.mark.parametrize(
    ("method", "headers", "key", "repeatable"),
    [
        ("GET", {}, None, True),
        ("HEAD", {}, None, True),
        ("PUT", {}, None, True),
        ("DELETE", {}, None, True),
        ("PUT", {"If-Match": '"1"'}, None, False),
        ("DELETE", {"if-match": '"1"'}, None, False),
        ("POST", {}, None, False),
        ("PATCH", {}, None, False),
        ("POST", {}, "a-key", True),
        ("POST", {}, True, True),
        ("PATCH", {}, True, True),
    ],
)
def test_which_requests_may_be_repeated(
    method: str, headers: dict[str, str], key: str | None, repeatable: bool
) -> None:
    assert build(method=method, headers=headers, idempotency_key=key).repeatable is repeatable
