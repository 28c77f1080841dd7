"""A file on its way in, whatever the form of its request: a name, a declared type, and its bytes piece by piece."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request

from assets_service.uploads.filenames import filename_from_form, filename_from_header
from assets_service.uploads.media_types import declared_type
from assets_service.uploads.multipart import FormFile
from servicekit.core.errors import BadRequest, PayloadTooLarge, ServiceError, UnsupportedMedia

MULTIPART: Final = "multipart/form-data"
# Boundaries and part headers come on top of the file itself. The gateway leaves the same room.
MULTIPART_ROOM: Final = 64 * 1024
# A client that sends nothing for so long has gone, or means to keep us waiting.
IDLE_SECONDS: Final = 30.0


class UploadBrokeOff(BadRequest):
    detail = "The upload ended before the file did."


class UploadStalled(ServiceError):
    status = 408
    detail = f"Nothing of the file arrived for {IDLE_SECONDS:.0f} seconds."


class FileTooLarge(PayloadTooLarge):
    """`limit` is in bytes."""

    type = "urn:baseplate:problem:file-too-large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"A file may have {limit} bytes at most.", max_upload_bytes=limit)


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """`declared` is None where the client wants us to look; `expected` is its size in bytes where that is known."""

    filename: str
    declared: str | None
    expected: int | None
    pieces: AsyncIterator[bytes]


async def open_upload(request: Request, limit: int) -> IncomingFile:
    """Read a request as far as to know what file it brings. `limit` is in bytes.

    Raises what is wrong with it, a too large one before any of its bytes are read.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Files are sent as they are, without a Content-Encoding.")
    content_type = request.headers.get("content-type")
    if content_type is None or not content_type.lower().startswith(MULTIPART):
        expected = _length(request, limit, limit)
        filename = filename_from_header(request.headers.get("x-filename"))
        return IncomingFile(filename, declared_type(content_type), expected, _chunks(request, limit, limit))
    length = _length(request, limit + MULTIPART_ROOM, limit)
    file = await FormFile.open(content_type, _chunks(request, limit + MULTIPART_ROOM, limit))
    expected = None if length is None else max(0, length - MULTIPART_ROOM)
    return IncomingFile(filename_from_form(file.filename), declared_type(file.content_type), expected, file.pieces())


def _length(request: Request, most: int, limit: int) -> int | None:
    text = request.headers.get("content-length", "")
    # More digits are too much in any case, and int() refuses to read thousands of them.
    if text.isdigit() and (len(text) > 18 or int(text) > most):
        raise FileTooLarge(limit)
    return int(text) if text.isdigit() else None


async def _chunks(request: Request, most: int, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, up to `most` bytes of it."""
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
        if received > most:
            raise FileTooLarge(limit)
        yield chunk
