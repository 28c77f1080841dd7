"""The parts of NGINX's configuration language that rendered files need."""

import ipaddress
from collections.abc import Iterable, Mapping


def text_of(lines: Iterable[str]) -> str:
    """Join lines into the text of a file."""
    return "".join(f"{line}\n" for line in lines)


def map_block(source: str, target: str, default: str, rows: Mapping[str, str] | None = None) -> str:
    """Return a `map` from one variable to another. Keys and values must not contain quotes."""
    lines = [f'    "{key}" "{value}";' for key, value in (rows or {}).items()]
    return text_of([f'map "{source}" {target} {{', *lines, f'    default "{default}";', "}"])


def address_of(host: str) -> str:
    """Return an IP address as it is written before a port: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def is_address(host: str) -> bool:
    """Whether a host, with or without brackets, is an IP address, not a name."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
