"""Requests to the gateway's own port, from inside its container."""

import http.client
import ipaddress
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

_LISTEN = re.compile(r"listen (\S+):([0-9]+)( ssl)?;")


def ask(target: Path, path: str, headers: Mapping[str, str] | None = None, *, seconds: float = 3.0) -> int:
    """Send a GET to the gateway that runs on `target` and return the answer's status. Raises `OSError`."""
    found = _LISTEN.match((target / "rendered" / "listen.conf").read_text())
    if found is None:
        raise OSError(f"{target} says nothing of a port")
    host, port = _reachable(found[1].strip("[]")), int(found[2])
    connection = (
        http.client.HTTPSConnection(host, port, timeout=seconds, context=_unverified())
        if found[3]
        else http.client.HTTPConnection(host, port, timeout=seconds)
    )
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP came back: {error!r}") from error
    finally:
        connection.close()


def _reachable(bound: str) -> str:
    """An address that means "all of this machine's" can be listened on but not asked."""
    address = ipaddress.ip_address(bound)
    if not address.is_unspecified:
        return bound
    return "127.0.0.1" if address.version == 4 else "::1"


def _unverified() -> ssl.SSLContext:
    """The certificate is for the name that clients use, and the way to it does not leave the container."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
