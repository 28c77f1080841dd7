"""Sealed routes by which the console keeps its audit trail here. Each change of an entry is also a log line."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from loguru import logger
from pydantic import Field
from pydantic.types import UUID7
from starlette.responses import JSONResponse

from servicekit.operators import CONSOLE
from servicekit.sealing.route_policy import sealed
from servicekit.web.json_body import RequestBody
from user_service.bodies import AccountRoute
from user_service.components import AppComponents

Text = Annotated[str, Field(max_length=1000)]
Limit = Annotated[int, Query(ge=1, le=500)]

router = APIRouter(
    prefix="/internal/audit",
    tags=["services"],
    include_in_schema=False,
    dependencies=[sealed(CONSOLE)],
    route_class=AccountRoute,
)


class AuditBody(RequestBody):
    """One step of an action of an operator; both steps of an action have the same id."""

    id: UUID7
    actor_id: UUID
    actor: Text
    action: Text
    target: Text
    outcome: Literal["started", "done", "failed"]
    detail: Text | None = None


@router.post("", status_code=204, response_class=Response)
async def record_audit_entry(body: AuditBody, components: AppComponents) -> Response:
    """Record what an operator is about to do, or how it ended. A repetition changes nothing."""
    entry = dict(body)
    if await components.audit_trail.record(entry):
        logger.bind(**{f"audit_{name}": str(value) for name, value in entry.items() if value is not None}).info("audit")
    return Response(status_code=204)


@router.get("")
async def list_audit_entries(components: AppComponents, limit: Limit = 100, before: UUID | None = None) -> JSONResponse:
    """Return the newest entries, or those older than the entry `before`."""
    return JSONResponse({"items": await components.audit_trail.page(limit=limit, before=before)})
