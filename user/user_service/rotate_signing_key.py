"""Replaces the key that signs access tokens while the platform runs.

    JWT_KEYS_DIR=… python -m user_service.rotate_signing_key --run-file .data/run.json

After an interruption, run it again: it continues where it stopped. No session ends: tokens of the old key stay valid
until they expire.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic_settings import BaseSettings

from servicekit.kit import USER
from servicekit.ops.rotation.command import add_fleet_options, reporting, say, workers_of
from user_service.tokens.rotation import GATEWAY_SECONDS, SigningKeyRotation
from user_service.tokens.signing_keys import SigningKeyError


class _Settings(BaseSettings):
    jwt_keys_dir: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 1 after a message on stderr."""
    parser = argparse.ArgumentParser(prog="python -m user_service.rotate_signing_key", description=__doc__)
    parser.add_argument(
        "--gateway-seconds",
        type=float,
        default=GATEWAY_SECONDS,
        help=f"time for the gateways to fetch a new key (default {GATEWAY_SECONDS:.0f}; shorter in tests)",
    )
    add_fleet_options(parser)
    options = parser.parse_args(arguments)
    rotation = SigningKeyRotation(
        _Settings().jwt_keys_dir,
        workers_of(options),
        service=USER,
        say=say,
        gateway_seconds=options.gateway_seconds,
    )
    return reporting(rotation.rotate(), expected=(SigningKeyError,))


if __name__ == "__main__":
    sys.exit(main())
