"""The address of the client that a request comes from."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import Scope


def client_address(scope: Scope, gateway_networks: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the client's IP address; X-Real-IP is believed only from the gateway's networks."""
    peer = scope["client"][0] if scope.get("client") else ""
    if not _inside(peer, gateway_networks):
        return peer
    forwarded = next((value for name, value in scope["headers"] if name == b"x-real-ip"), b"").decode("latin-1")
    return forwarded if _is_address(forwarded) else peer


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _inside(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)
