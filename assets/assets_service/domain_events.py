"""Names of the domain events that this service records or handles."""

from typing import Final

ASSET_UPLOADED: Final = "asset.uploaded"
USER_DELETED: Final = "user.deleted"
