"""Who sends a request, as far as a login keeps it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from servicekit.core.client_address import client_address
from user_service.sessions.rules import readable_user_agent
from user_service.throttling.rules import network_of


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from. `user_agent` is what the client calls itself."""

    address: str
    user_agent: str

    @property
    def network(self) -> str:
        """What limits count by: the address, or the /64 that an IPv6 subscriber has."""
        return network_of(self.address)


def _client(request: Request) -> Client:
    address = client_address(request.scope, request.app.state.gateway)
    return Client(address, readable_user_agent(request.headers.get("user-agent", "")))


RequestClient = Annotated[Client, Depends(_client)]
"""The client of the request; X-Real-IP is believed only from the gateway."""
