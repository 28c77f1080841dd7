"""What clients are told of a MongoDB that fails."""

import httpx2
import pytest
from fastapi import APIRouter
from pymongo.errors import OperationFailure

from servicekit.storage import mongo
from servicekit.testing.serving import nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.web.application import build_app


@pytest.mark.parametrize(("code", "status"), [(211, 503), (13, 500)], ids=["has just started", "any other failure"])
async def test_a_server_that_has_just_started_is_away_and_any_other_failure_is_one(code: int, status: int) -> None:
    router = APIRouter()

    @router.get("/broken")
    async def broken() -> None:
        raise OperationFailure("said by the server", code)

    settings = unconnected_settings("parcels")
    app = build_app(
        settings, title="Parcels", lifespan=nothing_to_do, routers=[router], checks={}, unavailable=mongo.UNAVAILABLE
    )
    mongo.add_startup_error_handler(app)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://parcels") as http:
        answer = await http.get("/broken")

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert "said by the server" not in answer.text
