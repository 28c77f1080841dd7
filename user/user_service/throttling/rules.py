"""How often a password may be guessed, and what counts as one address."""

from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from user_service.throttling.failure_limits import Counted, FailureLimit

# Failures, each within the time after the first of them.
PER_ACCOUNT_AND_ADDRESS: Final = FailureLimit("account-address", 10, 15 * 60)
PER_ADDRESS: Final = FailureLimit("address", 100, 15 * 60)
PER_ACCOUNT: Final = FailureLimit("account", 100, 60 * 60)

# An address from which nobody logged in for so long is a stranger's again.
ADDRESS_KEPT: Final = timedelta(days=90)

_IPV6_HOST_BITS: Final = 64


def network_of(address: str) -> str:
    """Return what one subscriber has: an IPv4 address, or the /64 of an IPv6 one. Other texts stay as they are."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        return str(ip_network((ip, 128 - _IPV6_HOST_BITS), strict=False))
    return str(ip)


def counters(subject: str, network: str, *, network_known: bool) -> tuple[Counted, ...]:
    """Return the limits of one attempt at `subject`'s password.

    Strangers who use an account's own limit up refuse it to other strangers only: where its owner has logged in before,
    he still may.
    """
    return (
        Counted(PER_ACCOUNT_AND_ADDRESS, f"{subject} {network}"),
        Counted(PER_ADDRESS, network),
        Counted(PER_ACCOUNT, subject, refuses=not network_known),
    )
