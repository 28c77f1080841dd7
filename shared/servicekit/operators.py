"""Sealed routes that the console asks of every service: its outbox, and a few counts.

    operators_router(outbox=outbox_store, summary=counts)

The gateway routes nothing to `/internal/`, and the description of the API does not have these routes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import JSONResponse

from servicekit.outbox import OutboxStore
from servicekit.sealing.route_policy import sealed
from servicekit.web.body_limit import route_with_body_limit
from servicekit.web.json_body import RequestBody

CONSOLE: Final = "console"
MAX_DEAD_LETTERS: Final = 100

# The names and values of a service's counts. They are cheap, and tell nothing private.
Summary = Callable[[], Awaitable[Mapping[str, int]]]


class RetriedEvents(RequestBody):
    """The ids of the events whose dead letters are sent again; None stands for all."""

    ids: list[UUID] | None = Field(max_length=MAX_DEAD_LETTERS)


def operators_router(*, outbox: OutboxStore[Any] | None, summary: Summary) -> APIRouter:
    """Return the routes of a service. One without an outbox says that nothing waits in it."""
    router = APIRouter(
        prefix="/internal",
        tags=["services"],
        include_in_schema=False,
        dependencies=[sealed(CONSOLE)],
        route_class=route_with_body_limit(),
    )

    @router.get("/outbox")
    async def read_outbox() -> JSONResponse:
        """Return what waits for each destination, and the newest dead letters without their payloads."""
        if outbox is None:
            return JSONResponse({"destinations": [], "dead_letters": []})
        backlogs = sorted((await outbox.backlogs()).items())
        dead_letters = await outbox.newest_dead_letters(limit=MAX_DEAD_LETTERS)
        return JSONResponse(
            {
                "destinations": [
                    {"destination": name, "waiting": each.waiting, "oldest_seconds": each.oldest_seconds}
                    for name, each in backlogs
                ],
                "dead_letters": [
                    {
                        "id": str(dead.id),
                        "destination": dead.destination,
                        "type": dead.type,
                        "occurred_at": dead.occurred_at.isoformat(),
                        "attempts": dead.failures,
                        "error": dead.last_error,
                    }
                    for dead in dead_letters
                ],
            }
        )

    @router.post("/outbox/retry")
    async def retry_dead_letters(body: RetriedEvents) -> JSONResponse:
        """Send dead letters again."""
        return JSONResponse({"retried": 0 if outbox is None else await outbox.retry(body.ids)})

    @router.get("/summary")
    async def read_summary() -> JSONResponse:
        """Return the service's counts."""
        counts = await summary()
        return JSONResponse({"counts": [{"name": name, "value": value} for name, value in counts.items()]})

    return router
