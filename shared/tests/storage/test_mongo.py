"""How clients learn that MongoDB fails."""

import httpx2
import pytest
from fastapi import APIRouter
from pymongo.errors import AutoReconnect, OperationFailure

from servicekit.storage import mongo
from servicekit.testing.serving import nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.web.application import build_app


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AutoReconnect("said by the driver"), 503),
        (OperationFailure("said by the server", 211), 503),
        (OperationFailure("said by the server", 13), 500),
    ],
    ids=["no primary", "has just started", "any other failure"],
)
async def test_an_unavailable_server_gives_503_and_any_other_failure_500(error: Exception, status: int) -> None:
    router = APIRouter()

    @router.get("/broken")
    async def broken() -> None:
        raise error

    settings = unconnected_settings("parcels")
    app = build_app(
        settings,
        title="Parcels",
        lifespan=nothing_to_do,
        routers=[router],
        checks={},
        is_unavailable=mongo.is_unavailable,
    )

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://parcels") as http:
        response = await http.get("/broken")

    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert "said by" not in response.text
