"""Expired rows are deleted, and no others."""

from typing import Any
from uuid import UUID

import jwt
import pytest
from sqlalchemy import text

from servicekit.storage.postgres_models import sessions_of
from user_service.upkeep import Upkeep

API = "/api/v1/users"


@pytest.fixture
def upkeep(database: Any, clock: Any) -> Upkeep:
    return Upkeep(sessions_of(database), clock=clock)


async def _left(database: Any, user_id: str) -> dict[str, int]:
    counts = {
        "sessions": "SELECT count(*) FROM sessions WHERE user_id = :id",
        "refresh_tokens": "SELECT count(*) FROM refresh_tokens JOIN sessions ON id = session_id WHERE user_id = :id",
        "login_addresses": "SELECT count(*) FROM login_addresses WHERE user_id = :id",
    }
    async with database.connect() as connection:
        return {table: await connection.scalar(text(query), {"id": user_id}) for table, query in counts.items()}


async def test_rows_that_are_still_needed_stay(replica: Any, upkeep: Upkeep, database: Any, clock: Any) -> None:
    ada = await replica.sign_in()
    newest = (await replica.refresh(ada.tokens["refresh_token"])).json()["refresh_token"]
    clock.advance(days=29)

    await upkeep.delete_expired()

    assert await _left(database, ada.id) == {"sessions": 1, "refresh_tokens": 2, "login_addresses": 1}
    assert (await replica.refresh(newest)).status_code == 200


async def test_expired_sessions_and_old_login_addresses_are_deleted(
    replica: Any, upkeep: Upkeep, database: Any, clock: Any
) -> None:
    ada = await replica.sign_in()
    clock.advance(days=30)
    await upkeep.delete_expired()
    assert await _left(database, ada.id) == {"sessions": 0, "refresh_tokens": 0, "login_addresses": 1}

    clock.advance(days=60)
    await upkeep.delete_expired()
    assert await _left(database, ada.id) == {"sessions": 0, "refresh_tokens": 0, "login_addresses": 0}


async def test_used_tokens_of_a_live_session_are_deleted_after_its_idle_time(
    replica: Any, upkeep: Upkeep, database: Any, clock: Any
) -> None:
    ada = await replica.sign_in()
    token = ada.tokens["refresh_token"]
    for _ in range(4):
        token = (await replica.refresh(token)).json()["refresh_token"]
        clock.advance(days=16)
    await upkeep.delete_expired()

    # Used 64, 48, 32 and 16 days ago, and the newest one.
    assert (await _left(database, ada.id))["refresh_tokens"] == 2
    assert (await replica.refresh(token)).status_code == 200


async def test_a_revocation_is_deleted_when_its_tokens_have_expired(
    replica: Any, upkeep: Upkeep, database: Any, clock: Any
) -> None:
    ada = await replica.sign_in()
    await replica.http.post(f"{API}/logout", headers=ada.headers)
    claims = jwt.decode(ada.tokens["access_token"], options={"verify_signature": False})

    async def known() -> int:
        async with database.connect() as connection:
            query = text("SELECT count(*) FROM ended_sessions WHERE session_id = :id")
            return int(await connection.scalar(query, {"id": UUID(claims["sid"])}) or 0)

    clock.advance(minutes=15)
    await upkeep.delete_expired()
    assert await known() == 1
    clock.advance(minutes=2)
    await upkeep.delete_expired()
    assert await known() == 0
