"""A typed client of the platform: `ApiClient`, and the operations in `baseplate_client.generated.api`."""

from baseplate_client.client import ApiClient, edit, items
from baseplate_client.errors import ApiError, EditConflict
from baseplate_client.session import MemoryStore, Session, Tokens, TokenStore

__all__ = ["ApiClient", "ApiError", "EditConflict", "MemoryStore", "Session", "TokenStore", "Tokens", "edit", "items"]
