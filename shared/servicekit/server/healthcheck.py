"""`python -m servicekit.server.healthcheck http://127.0.0.1:8000/ready`: the health check of a container.

It runs every few seconds beside every service, so it imports nothing but the HTTP client of the standard library.
"""

import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

# Longer than a service takes to ask its stores (servicekit.web.health), shorter than a container's own time-out.
TIMEOUT_SECONDS = 3.0
# As much of the answer as tells why a service is not ready.
_SHOWN_BYTES = 300


def failure(url: str, *, timeout: float = TIMEOUT_SECONDS) -> str | None:
    """Return why `url` is not healthy, in one line; None when it answers 200 within `timeout` seconds."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return f"{url} is no http:// URL"
    connection = None
    try:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        connection.request("GET", parts._replace(scheme="", netloc="", fragment="").geturl() or "/")
        answer = connection.getresponse()
        if answer.status == 200:
            return None
        said = answer.read(_SHOWN_BYTES).decode("utf-8", "replace")
        return _one_line(f"{url} answered {answer.status}: {said}")
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
