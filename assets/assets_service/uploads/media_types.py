"""Accepted types of files, and the detection of a file's type from its bytes.

Two checks must agree: the file begins with the type's signature, and libmagic's rules (in their Rust port,
`pure_magic_rs`) find the same type. What begins otherwise is text, if all its bytes are. A file that matches two types
is always served as the one that was found here.
"""

import codecs
import re
from functools import cache
from typing import Final, NoReturn

from pure_magic_rs import MagicDb

from servicekit.core.errors import UnsupportedMedia

TEXT: Final = "text/plain"
_MP3: Final = "audio/mpeg"
_MP4: Final = "video/mp4"

# Detection looks at this much of a file's beginning.
HEAD_BYTES: Final = 64 * 1024

# How a file of each type begins; text has no signature.
_SIGNATURES: Final = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "application/pdf": re.compile(rb"%PDF-"),
    _MP4: re.compile(rb"....ftyp", re.DOTALL),
    # A tag before the audio (ID3v2), or the header of a frame of MPEG layer III.
    _MP3: re.compile(rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"),
    "application/zip": re.compile(rb"PK(?:\x03\x04|\x05\x06)"),
}
ACCEPTED_TYPES: Final = frozenset({*_SIGNATURES, TEXT})
# Other names of the same types, which clients declare or libmagic reports.
_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "audio/mp3": _MP3,
    "video/x-m4v": _MP4,
    "application/x-pdf": "application/pdf",
    "application/x-zip-compressed": "application/zip",
}
# What clients declare that do not know the type.
_UNDECLARED: Final = frozenset({"", "application/octet-stream"})

# Other types of text that clients declare: any text/…, and these. All are stored and sent as text/plain.
_DECLARED_TEXT: Final = re.compile(
    r"text/[\w.+-]+|application/(?:[\w.-]+\+)?(?:json|xml)|application/(?:x-)?(?:ndjson|yaml|toml|sql|javascript)",
    re.ASCII,
)
# Documents with scripts in them, whatever their bytes.
_ACTIVE_TYPES: Final = frozenset({"text/html", "application/xhtml+xml", "image/svg+xml"})

# Texts that a program runs. Response headers prevent that in a browser; refusing them is a second defence.
_SCRIPTS: Final = {
    "a script, for it begins with #!": re.compile(rb"#![ \t]*[\w./]"),
    "a PHP script": re.compile(rb"\s*<\?(?:php\b|=)", re.IGNORECASE),
    "a batch file": re.compile(rb"\s*@echo\s+o(?:n|ff)\b", re.IGNORECASE),
    "a PostScript program": re.compile(rb"%!PS"),
}
# What may stand before the first element of a document: space, declarations, comments.
_PROLOG: Final = re.compile(
    rb"(?:\s+|<\?.*?\?>|<!--.*?-->|<!(?!doctype\s+(?:html|svg))[a-z][^>\[]*(?:\[.*?\]\s*)?>)*+",
    re.DOTALL | re.IGNORECASE,
)
# The first element of a document that a browser runs. A README may begin with other elements of HTML.
_ACTIVE_DOCUMENT: Final = re.compile(
    rb"<(?:!doctype\s+(?:html|svg)|(?:[\w.-]+:)?(?:html|head|body|script|iframe|frameset|embed|applet|svg))(?=[\s/>]|$)",
    re.IGNORECASE,
)
_BYTE_ORDER_MARK: Final = codecs.BOM_UTF8
_ALLOWED_IN_TEXT: Final = bytes(code for code in range(256) if (code >= 0x20 and code != 0x7F) or code in b"\t\n\f\r")


class UnsupportedType(UnsupportedMedia):
    """Files of this type are not accepted; `detail` says what was found."""

    type = "urn:baseplate:problem:unsupported-file-type"

    def __init__(self, found: str) -> None:
        super().__init__(f"{found} Files may be PNG, JPEG, GIF, WebP, PDF, text in UTF-8, MP4, MP3 or ZIP.")


class TypeMismatch(UnsupportedMedia):
    """The file is of another type than declared."""

    type = "urn:baseplate:problem:file-type-mismatch"

    def __init__(self, declared: str, found: str) -> None:
        super().__init__(f"The file is declared as {declared}, but its content is {found}.")


def parse_declared_type(content_type: str | None) -> str | None:
    """Return the type in a Content-Type header, or None if it leaves the type open. Raises `UnsupportedType`."""
    name = (content_type or "").partition(";")[0].strip().lower()
    if name in _UNDECLARED:
        return None
    name = _ALIASES.get(name, name)
    if name not in _ACTIVE_TYPES and _DECLARED_TEXT.fullmatch(name):
        return TEXT
    if name not in ACCEPTED_TYPES:
        raise UnsupportedType("The declared type is none of those that are taken.")
    return name


def detect(head: bytes) -> str:
    """Return the type of a file from its first `HEAD_BYTES`; `TextCheck` checks the rest of a text.

    Raises `UnsupportedType`.
    """
    found = _libmagic(head)
    if found in _SIGNATURES and _SIGNATURES[found].match(head):
        return found
    try:
        TextCheck().read(head)
    except UnsupportedType:
        if found and not found.startswith("text/") and found not in _UNDECLARED:
            raise UnsupportedType(f"The file was recognised as {found}.") from None
        raise
    if active := _active_text(head.removeprefix(_BYTE_ORDER_MARK)):
        raise UnsupportedType(f"The file is {active}.")
    return TEXT


def _active_text(text: bytes) -> str | None:
    """Return what a program may run in this text, or None. libmagic is no help: it takes prose for mail or code."""
    for kind, beginning in _SCRIPTS.items():
        if beginning.match(text):
            return kind
    prolog = _PROLOG.match(text)
    if _ACTIVE_DOCUMENT.match(text, prolog.end() if prolog else 0):
        return "an HTML or SVG document"
    return None


def _libmagic(head: bytes) -> str:
    try:
        magic = _database().first_magic_buffer(head)
    except ValueError:
        return ""
    # libmagic reports no type for an MP3 file whose tag is longer than the head.
    if magic.message.startswith("Audio file with ID3"):
        return _MP3
    return _ALIASES.get(magic.mime_type, magic.mime_type)


@cache
def _database() -> MagicDb:
    return MagicDb()


class TextCheck:
    """Checks piece by piece that a file is UTF-8 text without control characters."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._offset = 0

    def read(self, piece: bytes, *, last: bool = False) -> None:
        """Check the next piece. Raises `UnsupportedType`."""
        if controls := piece.translate(None, _ALLOWED_IN_TEXT):
            self._refuse("a control character", controls[0], piece.index(controls[0]))
        # The beginning of a character that the last piece ended with.
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(piece, last)
        except UnicodeDecodeError as error:
            self._refuse("not UTF-8", error.object[error.start], error.start - pending)
        self._offset += len(piece)

    def _refuse(self, reason: str, byte: int, position: int) -> NoReturn:
        where = f"byte 0x{byte:02X} at offset {self._offset + position}"
        raise UnsupportedType(f"The file is of no known type, and no text: {where} is {reason}.") from None
