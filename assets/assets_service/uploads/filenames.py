"""Names of files. They are shown and offered at downloads; they never become paths."""

import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar, Final
from urllib.parse import unquote_to_bytes

from assets_service.records.tables import FILENAME_LENGTH
from servicekit.core.errors import UnprocessableContent
from servicekit.core.text import BIDI_CONTROLS, has_unprintable

_NO_BIDI_CONTROLS: Final = dict.fromkeys(map(ord, BIDI_CONTROLS))
# How browsers escape these three characters, and no others, in a form's file name
# (https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data).
_FORM_ESCAPES: Final = {b"%22": b'"', b"%0D": b"\r", b"%0A": b"\n"}


# An extended value (RFC 8187, section 3.2.1). Some clients put it in quotes.
_EXTENDED_VALUE: Final = re.compile(
    rb"\"?(utf-8|iso-8859-1)'[A-Za-z0-9-]*'((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9a-f]{2})+)\"?", re.IGNORECASE
)


class InvalidFilename(UnprocessableContent):
    """The file's name is missing or not accepted."""

    extensions: ClassVar[Mapping[str, str]] = {}
    type = "urn:baseplate:problem:invalid-filename"
    detail = f"A file name has 1 to {FILENAME_LENGTH} characters of UTF-8 text without control characters."


def filename_from_header(value: str | None) -> str:
    """Return the name in an X-Filename header: UTF-8, percent-encoded. Raises `InvalidFilename`."""
    if value is None:
        raise InvalidFilename("The header X-Filename is missing. It holds the file's name as percent-encoded UTF-8.")
    return clean_filename(unquote_to_bytes(value.encode("latin-1")))


def filename_from_form(value: bytes | None, extended: bytes | None = None) -> str:
    """Return the name of the file in a multipart form, from the parameters `filename` and `filename*`.

    RFC 7578 forbids the second one, but .NET and PowerShell send it; there, the first one is no plain text. Raises
    `InvalidFilename`.
    """
    if extended is not None and (match := _EXTENDED_VALUE.fullmatch(extended)):
        charset, encoded = match.groups()
        with suppress(UnicodeDecodeError):
            return clean_filename(unquote_to_bytes(encoded).decode(charset.decode()).encode())
    if value is None:
        raise InvalidFilename
    return clean_filename(re.sub(rb"%(?:22|0D|0A)", lambda found: _FORM_ESCAPES[found[0]], value))


def clean_filename(raw: bytes) -> str:
    """Return the name in NFC, without folders and bidirectional controls. Raises `InvalidFilename`."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidFilename from None
    # Some clients send the path that the file had on their machine.
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", text).translate(_NO_BIDI_CONTROLS))[-1].strip()
    if name in ("", ".", "..") or len(name) > FILENAME_LENGTH or len(text) > 4 * FILENAME_LENGTH:
        raise InvalidFilename
    if has_unprintable(text):
        raise InvalidFilename
    return name
