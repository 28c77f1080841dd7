"""Upload requests, which bring a file as a form or as their body: its name, its declared type, and its bytes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request

from assets_service.uploads.filenames import filename_from_form, filename_from_header
from assets_service.uploads.media_types import parse_declared_type
from assets_service.uploads.multipart import FormFile
from servicekit.core.errors import BadRequest, PayloadTooLarge, ServiceError, UnsupportedMedia

MULTIPART: Final = "multipart/form-data"
# Room for boundaries and part headers around the file. The gateway leaves the same room.
MULTIPART_ROOM: Final = 64 * 1024
# A client that sends nothing for this long has disconnected, or means to block a connection.
IDLE_SECONDS: Final = 30.0
# More digits than these are too large in any case; int() refuses to read thousands of them.
_MAX_LENGTH_DIGITS: Final = 18


class UploadBrokeOff(BadRequest):
    """The connection ended before the upload did."""

    type = "urn:baseplate:problem:upload-incomplete"
    detail = "The upload ended before the file did."


class UploadStalled(ServiceError):
    """Nothing of the upload arrived for too long."""

    status = 408
    type = "urn:baseplate:problem:upload-stalled"
    detail = f"Nothing of the file arrived for {IDLE_SECONDS:.0f} seconds."


class FileTooLarge(PayloadTooLarge):
    def __init__(self, limit: int) -> None:
        super().__init__(limit, f"A file may have at most {limit} bytes.")


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """A file whose bytes are still to be read.

    `declared_type` is None when the client leaves it to the service. `expected_size`, in bytes, is None when unknown.
    """

    filename: str
    declared_type: str | None
    expected_size: int | None
    chunks: AsyncIterator[bytes]


async def open_upload(request: Request, limit: int) -> IncomingFile:
    """Read a request up to the first byte of its file, which may have `limit` bytes.

    Raises what is wrong with the request. A Content-Length that is too large is refused before the body is read.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("A file is sent without a Content-Encoding.", headers={"Accept-Encoding": "identity"})
    content_type = request.headers.get("content-type")
    if content_type is None or not content_type.lower().startswith(MULTIPART):
        expected_size = _content_length(request, limit, limit)
        filename = filename_from_header(request.headers.get("x-filename"))
        return IncomingFile(filename, parse_declared_type(content_type), expected_size, _chunks(request, limit, limit))
    length = _content_length(request, limit + MULTIPART_ROOM, limit)
    file = await FormFile.open(content_type, _chunks(request, limit + MULTIPART_ROOM, limit))
    expected_size = None if length is None else max(0, length - MULTIPART_ROOM)
    filename = filename_from_form(file.filename, file.extended_filename)
    return IncomingFile(filename, parse_declared_type(file.content_type), expected_size, file.chunks())


def _content_length(request: Request, max_body: int, limit: int) -> int | None:
    text = request.headers.get("content-length", "")
    if not text.isdigit():
        return None
    if len(text) > _MAX_LENGTH_DIGITS or int(text) > max_body:
        raise FileTooLarge(limit)
    return int(text)


async def _chunks(request: Request, max_body: int, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, up to `max_body` bytes."""
    received = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise UploadStalled from None
        except ClientDisconnect:
            raise UploadBrokeOff from None
        if chunk is None:
            return
        received += len(chunk)
        if received > max_body:
            raise FileTooLarge(limit)
        yield chunk
