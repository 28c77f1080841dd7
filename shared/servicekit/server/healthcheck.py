"""`python -m servicekit.server.healthcheck http://127.0.0.1:8000/ready`: the health check of a container.

It runs every few seconds in every container, so it imports only the HTTP client of the standard library.
"""

import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

# Longer than a service takes to ask its stores (servicekit.web.health), shorter than the container's own time-out.
TIMEOUT_SECONDS = 3.0
# Enough of the response to show why a service is not ready.
_SHOWN_BYTES = 300


def failure(url: str, *, timeout: float = TIMEOUT_SECONDS) -> str | None:
    """Return why `url` is not healthy, in one line, or None when it responds with 200 within `timeout` seconds."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return f"{url} is not an http:// URL"
    connection = None
    try:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        connection.request("GET", parts._replace(scheme="", netloc="", fragment="").geturl() or "/")
        response = connection.getresponse()
        if response.status == 200:
            return None
        body = response.read(_SHOWN_BYTES).decode("utf-8", "replace")
        return _one_line(f"{url} responded with {response.status}: {body}")
    except (OSError, HTTPException, ValueError) as error:
        return _one_line(f"{url}: {type(error).__name__}: {error}")
    finally:
        if connection is not None:
            connection.close()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> int:
    """Return the exit status: 0 when healthy, 1 after a line that says what is wrong."""
    if len(sys.argv) != 2:
        reason: str | None = "usage: python -m servicekit.server.healthcheck URL"
    else:
        reason = failure(sys.argv[1])
    if reason is None:
        return 0
    sys.stderr.write(reason + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
