"""A list shows one's own files, page by page."""

from typing import Any
from uuid import UUID, uuid4

import pytest

API = "/api/v1/assets"


async def test_pages_show_each_of_ones_own_files_once_the_newest_first(assets: Any, user: UUID) -> None:
    made = [(await assets.stored(user, b"x", name=f"{number}.txt"))["id"] for number in range(7)]
    await assets.stored(uuid4())
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await assets.http.get(API, params=params, headers=assets.headers(user))).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        # What is added meanwhile is newer than everything that is still to come.
        await assets.stored(user, b"later")
    assert seen == made[::-1]


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "WzFd"}, {"cursor": "W10"}]
)
async def test_wrong_limits_and_forged_cursors_are_refused(assets: Any, user: UUID, params: dict[str, Any]) -> None:
    assert (await assets.http.get(API, params=params, headers=assets.headers(user))).status_code == 422


async def test_a_cursor_gives_no_right(assets: Any, user: UUID) -> None:
    for _ in range(2):
        await assets.stored(user)
    page = (await assets.http.get(API, params={"limit": 1}, headers=assets.headers(user))).json()

    strangers = await assets.http.get(API, params={"cursor": page["next_cursor"]}, headers=assets.headers(uuid4()))

    assert strangers.json() == {"items": [], "next_cursor": None}


async def test_nobody_lists(assets: Any) -> None:
    assert (await assets.http.get(API)).status_code == 401
