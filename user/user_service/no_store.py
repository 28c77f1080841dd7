"""What caches on the way may do with an answer."""

from fastapi import Depends, Response


def _forbid_storing(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


no_store = Depends(_forbid_storing)
"""Declares an answer that no cache may keep, because it holds tokens (RFC 6749, section 5.1)."""
