"""The search for accounts by administrators."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from user_service.accounts.queries import FIRST_FOUND, search_range

API = "/api/v1/users"


async def _found(replica: Any, admin: Any, **query: Any) -> Any:
    response = await replica.http.get(API, params=query, headers=admin.headers)
    assert response.status_code == 200, response.text
    return response.json()


def _names(page: Any) -> list[str]:
    return [account["username"] for account in page["items"]]


@pytest.fixture
def word() -> str:
    """What only the accounts of one test begin with."""
    return f"w{uuid4().hex[:12]}"


async def test_names_addresses_and_display_names_are_found_by_their_beginning_in_any_case(
    replica: Any, word: str
) -> None:
    admin = await replica.sign_in_admin()
    await replica.register(f"{word.upper()}.a")
    await replica.register(f"x{word}b", email=f"{word}@example.com")
    await replica.register(f"x{word}c", display_name=f"{word} Lovelace-ÉÑ")
    await replica.register(f"x{word}d", display_name=f"Ada {word}")

    assert _names(await _found(replica, admin, q=f"  {word} ")) == [f"x{word}c", f"x{word}b", f"{word.upper()}.a"]
    assert _names(await _found(replica, admin, q=f"{word.upper()} LOVELACE-éñ")) == [f"x{word}c"]
    assert _names(await _found(replica, admin, q=f"{word}@example.com")) == [f"x{word}b"]
    assert _names(await _found(replica, admin, q=f"{word[:-1]}!")) == []


async def test_a_search_is_paged(replica: Any, word: str) -> None:
    admin = await replica.sign_in_admin()
    for number in range(5):
        await replica.register(f"{word}{number}")

    first = await _found(replica, admin, q=word, limit=3)
    await replica.register(f"{word}-later")
    second = await _found(replica, admin, q=word, limit=3, cursor=first["next_cursor"])

    assert [name[-1] for name in _names(first) + _names(second)] == ["4", "3", "2", "1", "0"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("q", ["%", "_", "a%", "\\", "' OR true --", "*"])
async def test_no_character_stands_for_another(replica: Any, q: str, word: str) -> None:
    admin = await replica.sign_in_admin()
    await replica.register(f"a{word}")

    assert _names(await _found(replica, admin, q=f"{q}{word}")) == []
    assert _names(await _found(replica, admin, q=f"a{word}{q}")) == []
    # Accounts of other tests may begin with such a character. This one, the newest, would come first.
    assert f"a{word}" not in _names(await _found(replica, admin, q=q))


@pytest.mark.parametrize("q", ["a" * 255, "a\x00b"], ids=["too long", "a null character"])
async def test_an_unacceptable_search_is_refused(replica: Any, q: str) -> None:
    admin = await replica.sign_in_admin()

    refused = await replica.http.get(API, params={"q": q}, headers=admin.headers)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "query.q"


async def test_only_administrators_search(replica: Any) -> None:
    ada = await replica.sign_in()

    assert (await replica.http.get(f"{API}?q=a", headers=ada.headers)).status_code == 403
    assert (await replica.http.get(f"{API}?q=a")).status_code == 401


async def test_a_search_among_a_hundred_thousand_accounts_uses_indexes(database: Any) -> None:
    async with database.connect() as connection:
        await connection.execute(
            text(
                "INSERT INTO users_read (id, username, email, display_name, role, created_at)"
                " SELECT gen_random_uuid(), 'n' || n, 'e' || n || '@many.example', 'D ' || n, 'user', now()"
                " FROM generate_series(1, 100000) n"
            )
        )
        await connection.execute(text("ANALYZE users_read"))
        driver: asyncpg.Connection[Any] = (await connection.get_raw_connection()).driver_connection
        arguments = FIRST_FOUND.arguments({**search_range("N4711"), "limit": 21})
        for mode in ("force_custom_plan", "force_generic_plan"):
            await driver.execute(f"SET LOCAL plan_cache_mode = {mode}")
            (row,) = await driver.fetch(f"EXPLAIN (FORMAT JSON) {FIRST_FOUND.text}", *arguments)
            scans = set(_scans(row[0][0]["Plan"]))
            assert "Seq Scan" not in scans
            assert scans & {"ix_users_read_username_prefix", "users_read_pkey", "pk_users_read"}
        await connection.rollback()


def _scans(plan: Any) -> Iterator[str]:
    """Yield the kinds of all nodes of a plan, and the indexes that they use."""
    yield plan["Node Type"]
    if "Index Name" in plan:
        yield plan["Index Name"]
    for inner in plan.get("Plans", ()):
        yield from _scans(inner)
