"""The errors of pydantic as a client understands them: its own paths, and messages without a library's terms."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from servicekit.core.errors import MAX_ERRORS

# Names in a path are the client's own, and may have any length.
MAX_NAME_LENGTH: Final = 64

_OBJECT: Final = "must be an object"
_INTEGER: Final = "must be an integer"
_NUMBER: Final = "must be a number"
_BOOLEAN: Final = "must be true or false"
_UUID: Final = "must be a UUID"
_TIME: Final = "must be a date and time with its offset, such as 2026-01-31T12:00:00Z"
_CHOICE: Final = "must be {expected}"
_MESSAGES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_parsing_size": _INTEGER,
    "int_from_float": _INTEGER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "enum": _CHOICE,
    "literal_error": _CHOICE,
    "uuid_type": _UUID,
    "uuid_parsing": _UUID,
    "uuid_version": _UUID,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "timezone_aware": _TIME,
    "value_error": "{error}",
    "assertion_error": "{error}",
}


def describe(errors: Sequence[Any], body: Any) -> list[dict[str, str]]:
    """List the first errors as `{field, message}`. The value sent is left out: it may be a password."""
    return [{"field": _path(error, body), "message": _message(error)} for error in errors[:MAX_ERRORS]]


def _message(error: Mapping[str, Any]) -> str:
    template = _MESSAGES.get(error["type"])
    return error["msg"] if template is None else template.format_map(error.get("ctx", {}))


def _path(error: Mapping[str, Any], body: Any) -> str:
    place, *parts = error["loc"]
    if place == "body":
        parts = _own_path(parts, body, is_missing=error["type"] == "missing")
    return ".".join(_shortened(str(part)) for part in (place, *parts))


def _own_path(parts: Sequence[Any], value: Any, *, is_missing: bool) -> list[Any]:
    """Return the parts that lead through the body. Others are names of models and of members of unions."""
    own = []
    for number, part in enumerate(parts, start=1):
        try:
            value = value[part]
        except (LookupError, TypeError):
            if not (is_missing and number == len(parts)):
                continue
        own.append(part)
    return own


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else name[:MAX_NAME_LENGTH] + "…"
