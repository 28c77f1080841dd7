"""Headers of responses with content; they keep browsers from running it."""

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from assets_service.records.schemas import AssetOut

# Characters that an extended value contains unescaped (RFC 8187, section 3.2.1).
_ATTR_CHARS: Final = "!#$&+-.^_`|~"
_UNSAFE_IN_NAMES: Final = '"\\%/<>:|?*'
# Windows opens a device by these names, whatever extension they have.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])[ ]*(?:\.|$)", re.IGNORECASE)
# A browser shows these as a picture and nothing else. The bytes decided the type, so no page or SVG has one of them.
INLINE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
# The content loads, runs, frames and submits nothing, whatever type a browser takes it for.
CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"


def content_headers(asset: AssetOut, *, inline: bool) -> dict[str, str]:
    """Return the headers of every response with content or a part of it. `inline` lets browsers show a picture."""
    kind = "inline" if inline and asset.media_type in INLINE_TYPES else "attachment"
    return {
        "Content-Type": f"{asset.media_type}; charset=utf-8" if asset.media_type == "text/plain" else asset.media_type,
        "Content-Disposition": disposition(asset.filename, kind),
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


def disposition(filename: str, kind: str = "attachment") -> str:
    """Return the Content-Disposition (RFC 6266) with the name in ASCII and, if it differs, in UTF-8."""
    fallback = _ascii_name(filename)
    plain = f'{kind}; filename="{fallback}"'
    return plain if fallback == filename else f"{plain}; filename*=UTF-8''{quote(filename, safe=_ATTR_CHARS)}"


def _ascii_name(filename: str) -> str:
    """Return a name that every client can store: neither empty nor hidden, and no name of a device."""
    text = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    # A quote would end the name. Browsers disagree on backslashes and percent signs. Windows forbids the others.
    name = "".join("_" if character in _UNSAFE_IN_NAMES else character for character in text).strip(" ").rstrip(" .")
    if not name.lstrip(" ."):
        return "download"
    if name.startswith("."):
        return f"download.{name.lstrip(' .')}"
    return f"_{name}" if _DEVICE.match(name) else name
