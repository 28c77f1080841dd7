"""The one file of a multipart/form-data body, read as a stream (RFC 7578)."""

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from servicekit.core.errors import BadRequest, UnprocessableContent

if TYPE_CHECKING:
    # Known to type checkers only.
    from python_multipart.multipart import MultipartCallbacks

FIELD: Final = b"file"
# A parameter of Content-Disposition. What stands in quotes is no parameter.
_PARAMETER: Final = re.compile(rb';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)


class MalformedForm(BadRequest):
    detail = "The body is not a multipart form."


class UnexpectedForm(UnprocessableContent):
    detail = "The form must have exactly one field, `file`, with the file and its name."


class FormFile:
    """The file of a form, whose headers have been read."""

    def __init__(self, parser: "_Parser", chunks: AsyncIterator[bytes]) -> None:
        self.filename = parser.filename
        self.extended_filename = parser.extended_filename
        self.content_type = parser.content_type
        self._parser = parser
        self._chunks = chunks

    @classmethod
    async def open(cls, content_type: str, chunks: AsyncIterator[bytes]) -> Self:
        """Read a body up to the file's first byte. Raises `MalformedForm`, `UnexpectedForm`."""
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedForm("The Content-Type has no boundary.")
        parser = _Parser(boundary)
        async for chunk in chunks:
            parser.feed(chunk)
            if parser.has_file:
                return cls(parser, chunks)
        raise UnexpectedForm if parser.complete else MalformedForm

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes. Raises `MalformedForm`, also if the form ends before its closing boundary."""
        for data in self._parser.take():
            yield data
        async for chunk in self._chunks:
            self._parser.feed(chunk)
            for data in self._parser.take():
                yield data
        if not self._parser.complete:
            raise MalformedForm


def _extended_filename(disposition: bytes) -> bytes | None:
    """Return the value of `filename*`, which the parser leaves out."""
    parameters = {name.lower(): value for name, value in _PARAMETER.findall(disposition)}
    value = parameters.get(b"filename*")
    return None if value is None else value.strip()


class _Parser:
    """Collects what the parser's callbacks report; the file's bytes stay until `take` only."""

    def __init__(self, boundary: bytes) -> None:
        self.has_file = False
        # The values of `filename` and `filename*`; one of them may be missing.
        self.filename: bytes | None = None
        self.extended_filename: bytes | None = None
        self.content_type = ""
        self.complete = False
        self._data: list[bytes] = []
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError:
            raise MalformedForm from None

    def feed(self, chunk: bytes) -> None:
        """Parse the next chunk. Raises `MalformedForm`, `UnexpectedForm`."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise MalformedForm from None

    def take(self) -> list[bytes]:
        """Return the file's bytes since the last call."""
        data, self._data = self._data, []
        return data

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(disposition)
        filename, extended = options.get(b"filename"), _extended_filename(disposition)
        named = filename is not None or extended is not None
        if self.has_file or kind != b"form-data" or options.get(b"name") != FIELD or not named:
            raise UnexpectedForm
        self.has_file, self.filename, self.extended_filename = True, filename, extended
        self.content_type = self._headers.get(b"content-type", b"").decode("latin-1")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _on_end(self) -> None:
        self.complete = True
