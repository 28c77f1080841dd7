"""Access tokens that differ from a valid one as a test says."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from servicekit.testing.tokens import TestIssuer


def make_token(issuer: TestIssuer, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """Return a signed token that is valid except for what is given; None removes a member."""
    return issuer.sign(
        _without_none(issuer.jose_header() | dict(header or {})), _without_none(issuer.claims(uuid4()) | claims)
    )


def _without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
