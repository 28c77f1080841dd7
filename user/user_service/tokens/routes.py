"""The public keys by which everybody verifies access tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from servicekit.sealing.route_policy import optional
from user_service.tokens.signing_keys import SigningKeys

router = APIRouter(tags=["tokens"])

# A new key is published before it signs, so copies may be this old.
_HEADERS = {"Cache-Control": "public, max-age=60"}


def _keys(request: Request) -> SigningKeys:
    keys: SigningKeys = request.app.state.signing_keys
    return keys


@router.get("/.well-known/jwks.json", dependencies=[optional()], response_model=dict[str, list[dict[str, Any]]])
async def read_jwks(keys: Annotated[SigningKeys, Depends(_keys)]) -> Response:
    """Return the keys that access tokens may be signed with, as a JWK set (RFC 7517)."""
    return Response(keys.jwks, media_type="application/json", headers=_HEADERS)
