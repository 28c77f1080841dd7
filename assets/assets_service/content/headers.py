"""Headers of responses with content; they keep browsers from running it."""

import unicodedata
from typing import Final
from urllib.parse import quote

from assets_service.records.schemas import AssetOut

# Characters that an extended value contains unescaped (RFC 8187, section 3.2.1).
_ATTR_CHARS: Final = "!#$&+-.^_`|~"
# The content loads, runs, frames and submits nothing, whatever type a browser takes it for.
CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"


def content_headers(asset: AssetOut) -> dict[str, str]:
    """Return the headers of every response with content or a part of it."""
    return {
        "Content-Type": f"{asset.media_type}; charset=utf-8" if asset.media_type == "text/plain" else asset.media_type,
        "Content-Disposition": disposition(asset.filename),
        "Accept-Ranges": "bytes",
        **validator_headers(asset),
    }


def validator_headers(asset: AssetOut) -> dict[str, str]:
    """Return the headers that a 304 response has as well."""
    return {
        "ETag": asset.etag,
        # Browsers revalidate each use and so notice a deletion; shared caches store nothing.
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": CONTENT_POLICY,
        "X-Content-Type-Options": "nosniff",
    }


def disposition(filename: str) -> str:
    """Return the Content-Disposition of a download (RFC 6266): the name in ASCII and, if it differs, in UTF-8."""
    ascii_name = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    # A quote would end the name. Browsers disagree on backslashes and percent signs.
    fallback = "".join("_" if character in '"\\%' else character for character in ascii_name).strip() or "download"
    plain = f'attachment; filename="{fallback}"'
    return plain if fallback == filename else f"{plain}; filename*=UTF-8''{quote(filename, safe=_ATTR_CHARS)}"
