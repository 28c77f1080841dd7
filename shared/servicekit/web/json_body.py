"""Parsing of JSON bodies: strict, and in a time that the limits of the route bound.

Validation costs far more than parsing, and a body of a megabyte can hold half a million values. So the values are
counted before they are parsed.
"""

import re
from itertools import islice
from typing import Any, ClassVar, Final

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from servicekit.core.errors import MAX_ERRORS, BadRequest, UnprocessableContent

_BOM: Final = b"\xef\xbb\xbf"
_DIGITS: Final = bytes.maketrans(b"123456789", b"0" * 9)
# A shorter integer fits into 64 bits.
_LONG: Final = b"0" * 19
_LONG_INTEGER: Final = re.compile(rb"(?<![\d.eE+-])-?\d{19,}+(?![.eE])")
# What the parser keeps as an integer. It would silently round others.
_INTEGERS: Final = range(-(2**63), 2**64)
_MAX_DIGITS: Final = 20


class InvalidJson(BadRequest):
    """The body is not JSON in UTF-8 (RFC 8259)."""

    type: ClassVar[str] = "urn:baseplate:problem:invalid-json"
    detail = "The body is not valid JSON."


class RequestBody(BaseModel):
    """The base of JSON bodies and of the objects in them. Unknown fields are refused, so no misspelt name is ignored.

    They are refused before the known ones are validated, and at most `MAX_ERRORS` are named: the framework would
    describe each of a hundred thousand.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, value: Any) -> Any:
        known = cls.__pydantic_fields__
        # This comparison is one call in C; a batch has a thousand objects.
        if isinstance(value, dict) and not value.keys() <= known.keys():
            unknown = islice((name for name in value if name not in known), MAX_ERRORS)
            errors = [InitErrorDetails(type="extra_forbidden", loc=(name,), input=None) for name in unknown]
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return value


def parse_json(body: bytes, max_values: int) -> Any:
    """Return the value of a body.

    Raises `InvalidJson`, and `UnprocessableContent` for more than `max_values` values or an integer that is too long.
    """
    _check_tokens(_without_strings(body, max_values), max_values)
    try:
        return orjson.loads(body.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The body is not valid JSON: {error.msg}, at character {error.pos}.") from None


def _without_strings(body: bytes, max_values: int) -> bytes:
    """Return what stands outside of the strings. Each step is one pass in C."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # A value and its name are two strings, so four quotes.
    if body.count(b'"') > 4 * max_values + 4:
        raise _too_many(max_values)
    return b"".join(body.split(b'"')[::2])


def _check_tokens(outside: bytes, max_values: int) -> None:
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > max_values:
        raise _too_many(max_values)
    if _LONG in outside.translate(_DIGITS):
        for found in _LONG_INTEGER.finditer(outside):
            if len(found[0].lstrip(b"-")) > _MAX_DIGITS or int(found[0]) not in _INTEGERS:
                raise _refused("integers must fit into 64 bits")


def _too_many(max_values: int) -> UnprocessableContent:
    return _refused(f"must not have more than {max_values:,} values")


def _refused(message: str) -> UnprocessableContent:
    return UnprocessableContent(errors=[{"field": "body", "message": message}])
