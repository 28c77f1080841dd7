"""How often a password may be guessed, and which addresses count as one."""

from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from user_service.throttling.failure_limits import FailureCounter, FailureLimit

# The time begins with the first failure.
PER_ACCOUNT_AND_ADDRESS: Final = FailureLimit("account-address", 10, 15 * 60)
PER_ADDRESS: Final = FailureLimit("address", 100, 15 * 60)
PER_ACCOUNT: Final = FailureLimit("account", 100, 60 * 60)

# How long an account remembers a network from which it has logged in.
ADDRESS_KEPT: Final = timedelta(days=90)

_IPV6_HOST_BITS: Final = 64


def network_of(address: str) -> str:
    """Return what one subscriber has: an IPv4 address or an IPv6 /64 network. Return other texts unchanged."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        return str(ip_network((ip, 128 - _IPV6_HOST_BITS), strict=False))
    return str(ip)


def counters(subject: str, network: str, *, network_known: bool) -> tuple[FailureCounter, ...]:
    """Return the counters of one attempt at `subject`'s password.

    `network_known` tells whether the account has logged in from this network before. If so, the account's own limit
    does not refuse the attempt: guesses from other networks cannot lock the owner out.

    Only the count of this subject and network ends with a success. Otherwise the owner of an account could guess
    at others without end.
    """
    return (
        FailureCounter(PER_ACCOUNT_AND_ADDRESS, f"{subject} {network}", forgives=True),
        FailureCounter(PER_ADDRESS, network),
        FailureCounter(PER_ACCOUNT, subject, refuses=not network_known),
    )


def forgiven(alias: str, network: str) -> FailureCounter:
    """Return the counter of another name of an account, to be ended by a success of the first."""
    return FailureCounter(PER_ACCOUNT_AND_ADDRESS, f"{alias} {network}", refuses=False, forgives=True)
