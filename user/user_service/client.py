"""The client of a request, as far as a login stores it."""

import unicodedata
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from servicekit.core.client_address import client_address
from user_service.throttling.rules import network_of

USER_AGENT_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from, and what the client calls itself."""

    address: str
    user_agent: str

    @property
    def network(self) -> str:
        """What failures are counted by: the IPv4 address, or the IPv6 /64 network."""
        return network_of(self.address)


def readable_user_agent(header: str) -> str:
    """Return a User-Agent header as one line of limited length without control characters."""
    shown = "".join(" " if unicodedata.category(character).startswith("C") else character for character in header)
    return shown[:USER_AGENT_LENGTH].strip()


async def _client(request: Request) -> Client:
    address = client_address(request.scope, request.app.state.gateway)
    return Client(address, readable_user_agent(request.headers.get("user-agent", "")))


RequestClient = Annotated[Client, Depends(_client)]
"""The client of the request. X-Real-IP is believed only when the gateway sends it."""
