"""The declaration of responses that no cache may store."""

from fastapi import Depends, Response


async def _forbid_storing(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


no_store = Depends(_forbid_storing)
"""For a route whose response holds tokens (RFC 6749, section 5.1)."""
