"""What the console asks of this service."""

from typing import Any
from uuid import uuid4


async def test_the_summary_counts_files_their_bytes_and_accounts_that_are_nearly_full(deployment: Any) -> None:
    async def counts(replica: Any) -> dict[str, int]:
        response = await replica.service("console").call("GET", "/internal/summary")
        return {count["name"]: count["value"] for count in response.json()["counts"]}

    async with deployment.replica(user_quota_bytes=100) as replica:
        before = await counts(replica)
        for size in (89, 90):
            response = await replica.upload(uuid4(), b"x" * size)
            assert response.status_code == 201, response.text
        after = await counts(replica)

    more = {name: after[name] - before[name] for name in after}
    assert more == {"files": 2, "bytes": 179, "accounts nearly full": 1}
