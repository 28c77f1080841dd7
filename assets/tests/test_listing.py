"""Lists of files, page by page."""

from typing import Any
from uuid import UUID, uuid4

import pytest

API = "/api/v1/assets"


async def test_pages_show_each_file_of_the_user_once_the_newest_first(replica: Any, user: UUID) -> None:
    made = [(await replica.stored(user, b"x", name=f"{number}.txt"))["id"] for number in range(7)]
    await replica.stored(uuid4())
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await replica.http.get(API, params=params, headers=replica.headers(user))).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        # A file added now is newer than all remaining pages.
        await replica.stored(user, b"later")
    assert seen == made[::-1]


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "WzFd"}, {"cursor": "W10"}]
)
async def test_wrong_limits_and_forged_cursors_are_refused(replica: Any, user: UUID, params: dict[str, Any]) -> None:
    assert (await replica.http.get(API, params=params, headers=replica.headers(user))).status_code == 422


async def test_a_cursor_gives_no_access_to_another_users_files(replica: Any, user: UUID) -> None:
    for _ in range(2):
        await replica.stored(user)
    page = (await replica.http.get(API, params={"limit": 1}, headers=replica.headers(user))).json()

    other_user = await replica.http.get(API, params={"cursor": page["next_cursor"]}, headers=replica.headers(uuid4()))

    assert other_user.json() == {"items": [], "next_cursor": None}


async def test_a_list_needs_a_token(replica: Any) -> None:
    assert (await replica.http.get(API)).status_code == 401
