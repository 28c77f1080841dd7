"""The public keys that verify access tokens."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from opskit.catalog import JWKS_PATH
from servicekit.sealing.route_policy import optional
from user_service.components import AppComponents

router = APIRouter(tags=["tokens"])

# A new key is published before it signs, so copies may be this old.
_HEADERS = {"Cache-Control": "public, max-age=60"}


@router.get(JWKS_PATH, dependencies=[optional()], response_model=dict[str, list[dict[str, Any]]])
async def read_jwks(components: AppComponents) -> Response:
    """Return the keys that access tokens may be signed with, as a JWK set (RFC 7517)."""
    return Response(components.signing_keys.jwks, media_type="application/json", headers=_HEADERS)
