"""`python -m gateway_config`: render the configuration from the environment, by hand."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway_config.render import STATIC_FILES, render
from gateway_config.settings import GatewaySettings
from opskit.catalog import DEFAULT_PATH, read_catalog

_EPILOG = """\
Settings come from the environment; gateway/README.md lists them. Then:
  nginx -p TARGET/ -c nginx.conf -e stderr        run it (add -t to check it)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Render; return the exit status: 0, or 2 with one line on stderr if a setting or server cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        servers = dict(_server_list(text) for text in options.server)
        render(
            GatewaySettings.from_environ(os.environ),
            read_catalog(options.services),
            servers,
            options.target,
            static_files=options.static,
        )
    except (ValueError, ModuleNotFoundError) as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - this is the command's interface
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway_config",
        description="Render the NGINX gateway's configuration into a directory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", type=Path, help="the directory that NGINX will run in")
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="SERVICE=HOST:PORT[,HOST:PORT…]",
        help="a service's servers; give it once for each service of the list",
    )
    parser.add_argument("--services", type=Path, default=DEFAULT_PATH, help="the service list (default: %(default)s)")
    parser.add_argument("--static", type=Path, default=STATIC_FILES, help="the static files (default: %(default)s)")
    return parser


def _server_list(text: str) -> tuple[str, list[str]]:
    service, separator, servers = text.partition("=")
    if not separator:
        raise ValueError(f"--server {text!r} is not of the form SERVICE=HOST:PORT")
    return service, [server for server in servers.split(",") if server]


if __name__ == "__main__":
    sys.exit(main())
