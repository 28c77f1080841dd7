"""Who hears of what happens here."""

from typing import Final

from assets_service.uploads.actions import ASSET_UPLOADED
from servicekit.outbox import Route, Routes, as_event

FACTS: Final = Routes({ASSET_UPLOADED: [Route("analytics", "/api/v1/analytics/events", as_event)]})
