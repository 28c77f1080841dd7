"""Who hears of what happens here."""

from typing import Final

from servicekit.outbox import Route, Routes, as_event

ASSET_UPLOADED: Final = "asset.uploaded"
FACTS: Final = Routes({ASSET_UPLOADED: [Route("analytics", "/api/v1/analytics/events", as_event)]})
