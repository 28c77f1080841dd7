"""Responses with content: sent by NGINX if it has the file, otherwise streamed from the store."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from assets_service.content.conditions import Conditions
from assets_service.content.headers import content_headers, validator_headers
from assets_service.content.ranges import ByteRange, exceeds_64_bits, parse_ranges
from assets_service.records.schemas import AssetOut
from assets_service.storage.interface import ByteStore

# The gateway sets this header to offer sending files itself; it removes the header from clients' requests.
CAPABILITY: Final = ("x-sendfile-type", "X-Accel-Redirect")
# The gateway's internal location of the folder with published bytes.
INTERNAL_LOCATION: Final = "/-/files"


@dataclass(frozen=True, slots=True)
class _Part:
    head: bytes
    range: ByteRange


class ContentSender:
    """Responds with content. If `accelerated`, the gateway can send files of the folder itself."""

    def __init__(self, store: ByteStore, *, accelerated: bool) -> None:
        self._store = store
        self._accelerated = accelerated

    async def respond(self, asset: AssetOut, request: Request, *, inline: bool = False) -> Response:
        """Return the response to a GET or HEAD request. `inline` lets browsers show a picture.

        Raises `MalformedCondition`, `PreconditionFailed`, `RangeNotSatisfiable`, `BytesMissing`, `StoreUnavailable`.
        """
        headers = request.headers
        conditions = Conditions.of(headers)
        conditions.check_match(asset.etag)
        if conditions.is_unchanged(asset.etag):
            return Response(status_code=304, headers=validator_headers(asset))
        ranged = request.method == "GET" and conditions.range_applies(asset.etag)
        range_header = headers.get("range") if ranged else None
        ranges = parse_ranges(range_header, asset.size)
        sent = content_headers(asset, inline=inline)
        location = self._location(asset, request)
        if location is not None:
            # NGINX cuts out the ranges and adds this header itself.
            del sent["Accept-Ranges"]
            return Response(headers={**sent, "X-Accel-Redirect": location})
        return await self._stream(asset, ranges, sent, head_only=request.method == "HEAD")

    def _location(self, asset: AssetOut, request: Request) -> str | None:
        name, value = CAPABILITY
        if not self._accelerated or request.headers.get(name) != value:
            return None
        # NGINX would compare these with the file on disk, which does not have the entity tag.
        if "if-match" in request.headers or "if-unmodified-since" in request.headers:
            return None
        if exceeds_64_bits(request.headers.get("range")):
            return None
        path = self._store.location(asset.id)
        return None if path is None else f"{INTERNAL_LOCATION}/{path}"

    async def _stream(
        self, asset: AssetOut, ranges: Sequence[ByteRange], headers: dict[str, str], *, head_only: bool
    ) -> Response:
        if head_only:
            return Response(headers={**headers, "Content-Length": str(asset.size)})
        if len(ranges) > 1:
            return await self._multipart(asset, ranges, headers)
        part = ranges[0] if ranges else ByteRange(0, asset.size)
        headers["Content-Length"] = str(part.length)
        if ranges:
            headers["Content-Range"] = part.content_range(asset.size)
        body = await self._store.read(asset.id, part.start, part.stop)
        return StreamingResponse(body, 206 if ranges else 200, headers)

    async def _multipart(self, asset: AssetOut, ranges: Sequence[ByteRange], headers: dict[str, str]) -> Response:
        """Return several parts in one body (RFC 9110, section 14.6)."""
        boundary = secrets.token_hex(16)
        media_type = headers["Content-Type"]
        parts = [
            _Part(
                f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\n"
                f"Content-Range: {part.content_range(asset.size)}\r\n\r\n".encode(),
                part,
            )
            for part in ranges
        ]
        end = f"\r\n--{boundary}--\r\n".encode()
        headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        headers["Content-Length"] = str(sum(len(part.head) + part.range.length for part in parts) + len(end))
        # Opened before the response begins, so that missing bytes become an error response.
        first = await self._store.read(asset.id, ranges[0].start, ranges[0].stop)
        return StreamingResponse(self._multipart_body(asset.id, parts, first, end), 206, headers)

    async def _multipart_body(
        self, asset_id: UUID, parts: Sequence[_Part], first: AsyncIterator[bytes], end: bytes
    ) -> AsyncIterator[bytes]:
        for number, part in enumerate(parts):
            yield part.head
            body = await self._store.read(asset_id, part.range.start, part.range.stop) if number else first
            async for piece in body:
                yield piece
        yield end
