"""The body of a telemetry request: read within its limits, and unpacked."""

import zlib
from typing import Final

from servicekit.core.errors import BadRequest, PayloadTooLarge, UnsupportedMedia

# As it arrives, and unpacked.
MAX_BYTES: Final = 4 * 1024 * 1024
PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_GZIP_WINDOW: Final = 31


class MalformedTelemetry(BadRequest):
    """The body is not the OTLP message of this path."""

    detail = "The body is not a valid OTLP message."


def check_media_type(content_type: str, coding: str) -> str:
    """Return the media type of a body. Raises `UnsupportedMedia`."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in (PROTOBUF, JSON):
        raise UnsupportedMedia(f"Telemetry is {PROTOBUF} or {JSON}.", headers={"Accept": f"{PROTOBUF}, {JSON}"})
    if coding.strip().lower() not in ("", "identity", "gzip"):
        raise UnsupportedMedia("Telemetry is packed by gzip or not at all.", headers={"Accept-Encoding": "gzip"})
    return media_type


def unpack(body: bytes, coding: str) -> bytes:
    """Return the content of a body. Never unpacks more than `MAX_BYTES`, whatever the body claims.

    Raises `MalformedTelemetry` and `PayloadTooLarge`.
    """
    if coding.strip().lower() != "gzip":
        return body
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = unpacker.decompress(body, MAX_BYTES + 1)
    except zlib.error:
        raise MalformedTelemetry("The body is not valid gzip.") from None
    if len(content) > MAX_BYTES:
        raise PayloadTooLarge(MAX_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedTelemetry("The body is not one complete gzip member.")
    return content
