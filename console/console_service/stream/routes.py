"""`/console/api/stream`: server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from console_service.components import AppComponents, Components
from console_service.sessions.guard import CurrentOperator
from console_service.sessions.memory import OperatorSession
from console_service.stream.feed import CHECK_SECONDS, HEARTBEAT, HEARTBEAT_SECONDS, TICK_SECONDS, TOPICS, Feed
from servicekit.core.errors import ServiceError, ServiceUnavailable, UnprocessableContent
from servicekit.core.stopping import is_stopping

MAX_STREAMS: Final = 50
router = APIRouter(prefix="/console/api/stream", tags=["stream"])


class TooManyStreams(ServiceUnavailable):
    detail = "Too many pages follow the platform already."


@router.get("", response_model=None)
async def follow(
    operator: CurrentOperator,
    components: AppComponents,
    topics: Annotated[str, Query(max_length=100, description=", ".join(TOPICS))] = "overview",
) -> Response:
    """Follow topics. `requests` and `logs` bring new items, all others their whole state when it changes."""
    wanted = frozenset(topics.split(","))
    if not wanted <= frozenset(TOPICS):
        raise UnprocessableContent(errors=[{"field": "query.topics", "message": f"may be {', '.join(TOPICS)}"}])
    if components.streams.open >= MAX_STREAMS:
        raise TooManyStreams
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(components, operator, wanted), media_type="text/event-stream", headers=headers)


async def _events(components: Components, operator: OperatorSession, topics: frozenset[str]) -> AsyncIterator[bytes]:
    """Yield events until the client leaves or the session ends."""
    feed = Feed(components.telemetry, components.snapshots, topics)
    checked = spoke = time.monotonic()
    with components.streams.one():
        yield b"retry: 2000\n\n"
        while True:
            now = time.monotonic()
            if operator.ended or is_stopping():
                return
            if now - checked >= CHECK_SECONDS:
                checked = now
                try:
                    await components.session_actions.check(operator)
                except ServiceError:
                    # The page asks again and learns why. While nobody can tell, nothing more is shown.
                    return
            for each in feed.new_events():
                spoke = now
                yield each
            if now - spoke >= HEARTBEAT_SECONDS:
                spoke = now
                yield HEARTBEAT
            await asyncio.sleep(TICK_SECONDS)
