"""`python3 -m gateway_config.container.healthcheck`: exit 0 when NGINX answers on its port, plain or TLS."""

import sys

from gateway_config.container.installation import Installation
from gateway_config.container.own_listener import ask


def main() -> int:
    """Ask for /gateway-health and return the exit status, with one line on stderr when it is 1."""
    try:
        status = ask(Installation().target, "/gateway-health")
    except OSError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - the engine keeps it as the probe's output
        return 1
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
