"""The names of the domain events that this service records."""

from typing import Final

USER_REGISTERED: Final = "user.registered"
USER_DELETED: Final = "user.deleted"
