"""Which page a request comes from."""

from collections.abc import Mapping
from typing import Final

from servicekit.core.errors import Forbidden

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SCHEMES: Final = frozenset({"http", "https"})


class OriginRefused(Forbidden):
    """A page of another origin wants to act in the console."""

    type = "urn:baseplate:problem:origin-refused"
    detail = "The console takes actions from its own page only."


class CsrfRefused(Forbidden):
    """The header X-CSRF-Token does not hold the token of the session."""

    type = "urn:baseplate:problem:csrf-refused"
    detail = "The request needs the CSRF token of the session."


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse a request that the console's own page did not make. Raises `OriginRefused`.

    A browser sets both headers, and no script can change them. One that contradicts is enough for a refusal.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        raise OriginRefused
    if site is not None and site != "same-origin":
        raise OriginRefused
    if origin is not None:
        scheme, _, authority = origin.partition("://")
        if scheme not in _SCHEMES or authority == "" or authority != headers.get("host", ""):
            raise OriginRefused
