"""Routes of this service that read a body: names, addresses and passwords, so small ones."""

from typing import Final

from servicekit.web.body_limit import route_with_body_limit

MAX_BODY_BYTES: Final = 16 * 1024

AccountRoute = route_with_body_limit(MAX_BODY_BYTES)
