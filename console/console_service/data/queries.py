"""How much there is of what: counts of all services, events by type and time. No content."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from loguru import logger

from console_service.asking import ask_all
from servicekit.core.errors import ServiceError

MAX_SERIES: Final = 6
EVENTS_SERVICE: Final = "analytics"


class Summaries(Protocol):
    """What services tell about their data. All raise `ServiceError`."""

    async def summary(self, service: str) -> Sequence[Mapping[str, Any]]: ...

    async def event_types(self, access_token: str) -> Mapping[str, int]: ...

    async def event_series(self, access_token: str, event_type: str, interval: str) -> Sequence[Mapping[str, Any]]: ...


class DataQueries:
    """Asks all services at once, and leaves out those that do not respond."""

    def __init__(self, summaries: Summaries, services: Sequence[str]) -> None:
        self._summaries = summaries
        self._services = services

    async def data(self, access_token: str, interval: str) -> dict[str, Any]:
        counts, (by_type, series) = await asyncio.gather(self._counts(), self._events(access_token, interval))
        return {"counts": counts, "by_type": by_type, "series": series}

    async def _counts(self) -> list[dict[str, Any]]:
        found = await ask_all(self._services, self._summaries.summary, "summary")
        return [
            {"service": service, "name": each["name"], "value": each["value"]}
            for service, summary in found
            for each in summary
        ]

    async def _events(self, access_token: str, interval: str) -> tuple[Mapping[str, int], list[dict[str, Any]]]:
        # A platform can be without it.
        if EVENTS_SERVICE not in self._services:
            return {}, []
        try:
            by_type = await self._summaries.event_types(access_token)
            frequent = sorted(by_type, key=lambda each: by_type[each], reverse=True)[:MAX_SERIES]
            courses = await asyncio.gather(
                *(self._summaries.event_series(access_token, each, interval) for each in frequent)
            )
        except ServiceError as error:
            logger.warning("no figures of events: {}", error)
            return {}, []
        return by_type, [{"type": each, "items": items} for each, items in zip(frequent, courses, strict=True)]
