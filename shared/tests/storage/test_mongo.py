"""How clients learn that MongoDB fails."""

import re

import httpx2
import pytest
from fastapi import APIRouter
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from servicekit.storage import mongo
from servicekit.testing.serving import nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.web.application import build_app

UNAVAILABLE = {
    "has just started": 211,
    "not a primary": 10107,
    "steps down": 189,
    "shuts down": 91,
    "interrupted by a shutdown": 11600,
    "interrupted by an operator": 11601,
    "a time limit": 50,
    "a lock time-out": 24,
    "a write conflict": 112,
    "no majority": 64,
    "an unsatisfiable write concern": 100,
    "disk full": 14031,
    "a file cannot be written": 39,
    "out of memory": 146,
    "writes are blocked": 371,
    "a refused password": 18,
    "a deleted user": 11,
    "a withdrawn right": 13,
}
DRIVER = {
    "no primary": AutoReconnect("said by the driver"),
    "a primary that changed": NotPrimaryError("said by the driver"),
    "no server": ServerSelectionTimeoutError("said by the driver"),
    "no response": NetworkTimeout("said by the driver"),
    "no free connection": WaitQueueTimeoutError("said by the driver"),
    "a slow command": ExecutionTimeout("said by the driver", 50),
    "a slow majority": WTimeoutError("said by the driver", 64),
}


def _failed(code: int) -> OperationFailure:
    return OperationFailure("said by the server", code)


def _failed_in_bulk(code: int, kind: str = "writeErrors") -> BulkWriteError:
    return BulkWriteError({kind: [{"code": code, "errmsg": "said by the server"}]})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        *((_failed(code), 503) for code in UNAVAILABLE.values()),
        *((error, 503) for error in DRIVER.values()),
        (_failed_in_bulk(14031), 503),
        (_failed_in_bulk(64, "writeConcernErrors"), 503),
        (OperationFailure("said by the server", 1, {"errorLabels": ["TransientTransactionError"]}), 503),
        (_failed(2), 500),
        (_failed(121), 500),
        (_failed_in_bulk(121), 500),
        (DuplicateKeyError("said by the server", 11000), 500),
    ],
    ids=[
        *UNAVAILABLE,
        *DRIVER,
        "disk full in bulk",
        "write concern in bulk",
        "a transient error",
        "a bad value",
        "an invalid document",
        "an invalid document in bulk",
        "a duplicate",
    ],
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


async def test_a_refused_password_fails_the_probe_and_means_unavailable(mongo_url: str) -> None:
    client = mongo.create_client(SecretStr(mongo_url), application="parcels")
    await mongo.ping(mongo.database(client))
    await mongo.close(client)

    wrong = SecretStr(_with_password(mongo_url, "wrong"))
    client = mongo.create_client(wrong, application="parcels")
    with pytest.raises(OperationFailure) as refused:
        await mongo.ping(mongo.database(client))
    assert mongo.is_unavailable(refused.value)
    await mongo.close(client)


async def test_an_operation_that_hangs_ends_before_the_gateway_gives_up(mongo_url: str) -> None:
    """`fsyncLock` makes writes wait, as a stalled disk does."""
    client = mongo.create_client(SecretStr(mongo_url), application="parcels", operation_milliseconds=300)
    parcels = mongo.database(client)["parcels"]
    await parcels.insert_one({"_id": 1})
    with MongoClient(mongo_url) as operator:
        operator.admin.command("fsync", lock=True)
        try:
            with pytest.raises(NetworkTimeout) as late:
                await parcels.insert_one({"_id": 2})
            assert mongo.is_unavailable(late.value)
            assert await parcels.find_one({"_id": 1})
        finally:
            operator.admin.command("fsyncUnlock")
    await mongo.close(client)


def _with_password(url: str, password: str) -> str:
    return re.sub(r"(?<=//)([^:]+):[^@]+@", rf"\1:{password}@", url)
