"""What is said about content, so that no browser takes it for something that it may run."""

import unicodedata
from typing import Final
from urllib.parse import quote

from assets_service.records.schemas import AssetOut

# RFC 8187, section 3.2.1: what may stand in an extended value as it is.
_ATTR_CHARS: Final = "!#$&+-.^_`|~"
# Nothing is loaded, run, framed or submitted by what is shown from here, whatever type a browser takes it for.
CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"


def content_headers(asset: AssetOut) -> dict[str, str]:
    """Return the headers of every answer with content, or with a part of it."""
    return {
        "Content-Type": f"{asset.media_type}; charset=utf-8" if asset.media_type == "text/plain" else asset.media_type,
        "Content-Disposition": disposition(asset.filename),
        "Accept-Ranges": "bytes",
        **shared_headers(asset),
    }


def shared_headers(asset: AssetOut) -> dict[str, str]:
    """Return those of them that also tell that nothing has changed."""
    return {
        "ETag": asset.etag,
        # Each use asks again, and so notices a deletion; no cache gives it to somebody else.
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": CONTENT_POLICY,
        "X-Content-Type-Options": "nosniff",
    }


def disposition(filename: str) -> str:
    """Return the Content-Disposition of a download (RFC 6266), with the name in ASCII and, if it differs, in UTF-8."""
    ascii_name = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    # A quote would end the name, a backslash or a percent sign is read in different ways by different browsers.
    fallback = "".join("_" if character in '"\\%' else character for character in ascii_name).strip() or "download"
    plain = f'attachment; filename="{fallback}"'
    return plain if fallback == filename else f"{plain}; filename*=UTF-8''{quote(filename, safe=_ATTR_CHARS)}"
