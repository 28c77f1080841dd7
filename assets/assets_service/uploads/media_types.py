"""Accepted types of files, and the detection of a file's type from its bytes.

Two checks must agree: the file begins with the type's signature, and libmagic's rules (in their Rust port,
`pure_magic_rs`) find the same type. A file that matches two types is refused, unless it begins with the signature of
an accepted type; then it is always served as that type.
"""

import codecs
import re
from functools import cache
from typing import Final

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
    _MP3: re.compile(rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"),
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

# Kinds of text that a program might run or render. Response headers prevent that; refusing them is a second defence.
_ACTIVE_TEXT: Final = re.compile(
    r"text/(?:html|xml|javascript|x-php|x-shellscript|x-msdos-batch|x-perl|x-ruby|x-python|x-script\S*|x-\S*-?script\S*)"
)
_TEXT_LIKE: Final = frozenset({"application/json", "application/x-ndjson", "application/octet-stream"})
_ALLOWED_IN_TEXT: Final = bytes(code for code in range(256) if (code >= 0x20 and code != 0x7F) or code in b"\t\n\f\r")


class UnsupportedType(UnsupportedMedia):
    """Files of this type are not accepted."""

    type = "urn:baseplate:problem:unsupported-file-type"
    detail = "Files may be PNG, JPEG, GIF, WebP, PDF, plain text (UTF-8), MP4, MP3 or ZIP."


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
    if name not in ACCEPTED_TYPES:
        raise UnsupportedType
    return name


def detect(head: bytes) -> str:
    """Return the type of a file from its first `HEAD_BYTES`; `TextCheck` checks the rest of a text.

    Raises `UnsupportedType`.
    """
    found = _libmagic(head)
    for media_type, signature in _SIGNATURES.items():
        if signature.match(head):
            if found != media_type:
                raise UnsupportedType
            return media_type
    active = _ACTIVE_TEXT.fullmatch(found)
    if active or not (found.startswith("text/") or found in _TEXT_LIKE):
        raise UnsupportedType
    return TEXT


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

    def read(self, piece: bytes, *, last: bool = False) -> None:
        """Check the next piece. Raises `UnsupportedType`."""
        if piece.translate(None, _ALLOWED_IN_TEXT):
            raise UnsupportedType
        try:
            self._decoder.decode(piece, last)
        except UnicodeDecodeError:
            raise UnsupportedType from None
