"""What a call consists of, and the check that it means on the wire what it means in the code."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import quote, urlencode

import orjson
from uuid_utils.compat import uuid7

from servicekit.dispatcher.errors import InvalidCall
from servicekit.dispatcher.policy import CallPolicy
from servicekit.dispatcher.response import PeerResponse

Param = str | int | float | bool | Sequence[str]

BODILESS = frozenset({"GET", "HEAD", "DELETE"})
METHODS = BODILESS | {"POST", "PUT", "PATCH"}
# RFC 9110, section 9.2.2: two such requests have the effect of one.
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})

# RFC 3986, section 3.3: the characters of a path. All others must be percent-encoded.
_PATH = re.compile(r"/(?!/)(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2[eE]){1,2}(?:/|$)")
# RFC 9110, sections 5.1 and 5.5, except for the obsolete bytes above ASCII.
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
# Spaces at the ends would be lost on the way, and the key would become another one.
_IDEMPOTENCY_KEY = re.compile(r"(?! )[\x20-\x7e]{1,255}(?<! )")
# Headers that the dispatcher or the connection sets, and the prefix of those that the kit sets.
_RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "traceparent",
        "tracestate",
        "upgrade",
        "x-correlation-id",
        "x-encrypt-response",
        "x-request-deadline-ms",
        "x-request-id",
    }
)
_RESERVED_PREFIX = "x-service-"


class PeerClient(Protocol):
    """How a service calls others: by a `Dispatcher` in production, by a `FakeDispatcher` in unit tests."""

    async def call(
        self,
        peer: str,
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, Param] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        encrypted: bool = False,
        idempotency_key: str | Literal[True] | None = None,
        deadline: float | None = None,
        policy: CallPolicy | None = None,
    ) -> PeerResponse: ...


class Call(NamedTuple):
    """One checked call. Header names are in lower case, `content-type` and `idempotency-key` included."""

    method: str
    # Path and query as they stand on the request line.
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def repeatable(self) -> bool:
        """Whether sending the request twice has the effect of sending it once.

        With If-Match it has not: after a lost response the repetition would meet its own first effect and get 412.
        """
        if "idempotency-key" in self.headers:
            return True
        return self.method in IDEMPOTENT and "if-match" not in self.headers


def build_call(
    path: str,
    *,
    method: str,
    params: Mapping[str, Param] | None,
    headers: Mapping[str, str] | None,
    json: Any,
    content: bytes | None,
    idempotency_key: str | Literal[True] | None,
) -> Call:
    """Check the parts of a call and put them together.

    Raises InvalidCall for everything that could change the meaning of the request on the wire: control characters, dot
    segments, headers that the dispatcher sets, a body where the method has none.
    """
    if method not in METHODS:
        raise InvalidCall(f"method {method!r} is not one of {sorted(METHODS)}")
    if not _is_plain_path(path):
        raise InvalidCall(f"path {path!r} is not an absolute path with all special characters percent-encoded")
    checked = _check_headers(headers) if headers else {}
    if json is not None and content is not None:
        raise InvalidCall("a call has either json or content, not both")
    body = orjson.dumps(json) if json is not None else content or b""
    if body and method in BODILESS:
        raise InvalidCall(f"a {method} request has no body")
    if body:
        checked.setdefault("content-type", "application/octet-stream" if json is None else "application/json")
    if idempotency_key is not None:
        if "idempotency-key" in checked:
            raise InvalidCall("the Idempotency-Key is given twice")
        checked["idempotency-key"] = str(uuid7()) if idempotency_key is True else idempotency_key
    if "idempotency-key" in checked:
        _check_key(checked["idempotency-key"])
    return Call(method, f"{path}?{_query(params)}" if params else path, checked, body)


# Most calls of a service go to a handful of paths.
@functools.lru_cache(maxsize=1024)
def _is_plain_path(path: str) -> bool:
    return _PATH.fullmatch(path) is not None and _DOT_SEGMENT.search(path) is None


def _query(params: Mapping[str, Param]) -> str:
    plain = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
    return urlencode(plain, doseq=True, quote_via=quote, safe="")


def _check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked = {}
    for name, value in headers.items():
        lower = name.lower()
        if not _HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            # The text omits the value: it may be a credential.
            raise InvalidCall(f"header {name!r} has a character that headers must not have")
        if lower in _RESERVED or lower.startswith(_RESERVED_PREFIX):
            raise InvalidCall(f"header {name!r} is set by the dispatcher")
        checked[lower] = value
    return checked


def _check_key(key: str) -> None:
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidCall("an Idempotency-Key has 1 to 255 printable ASCII characters")
