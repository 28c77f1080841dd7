"""`/console/api/mail`."""

from fastapi import APIRouter
from starlette.responses import Response

from console_service import responses
from console_service.components import AppComponents
from console_service.sessions.guard import CurrentOperator

router = APIRouter(prefix="/console/api/mail", tags=["mail"])


@router.get("", response_model=None)
async def list_mails(_operator: CurrentOperator, components: AppComponents) -> Response:
    """List the newest mails."""
    return responses.json(await components.mail_queries.page())


@router.get("/{mail_id}", response_model=None)
async def read_mail(mail_id: str, _operator: CurrentOperator, components: AppComponents) -> Response:
    """Return the content of a mail."""
    return responses.json(await components.mail_queries.one(mail_id))
