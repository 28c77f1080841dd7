"""`traffic`: how much of a service's traffic its next version gets, while the gateway runs."""

import argparse
import re
import sys
from collections.abc import Sequence

from gateway_config.container.installation import Installation
from gateway_config.container.nginx import ReloadFailed
from gateway_config.container.release_state import read_weights, state_text
from gateway_config.container.shares import ChangeFailed, set_share
from gateway_config.container.smoke import examine

_DESCRIPTION = """\
traffic                 print the state of releases as JSON
traffic SERVICE 25      let SERVICE's next version (SERVICE-v2) answer 25 of a hundred requests; 0: only those that ask
                        for it by the header `X-Release: v2`; 100: all
traffic SERVICE off     end the release: everything goes to the stable version
traffic check SERVICE   ask every server of the next version whether it is ready, and whether its readable paths work
"""
_EPILOG = """\
A change is checked before it counts. When it fails, everything stays as it was. The command returns when no worker
accepts requests by the earlier state; requests that they have begun are finished.
Exit status: 0 done, 1 failed (the reason is on stderr), 2 called wrongly.
"""


def main(arguments: Sequence[str] | None = None, installation: Installation | None = None) -> int:
    """Run one of the forms of `traffic` and return the exit status."""
    parser = _parser()
    words = parser.parse_args(arguments).words
    installation = installation or Installation()
    try:
        match words:
            case []:
                return _show(installation)
            case ["check", service] if service in installation.catalog:
                return _check(installation, service)
            case [service, share] if service in installation.catalog and re.fullmatch("[0-9]{1,2}|100|off", share):
                return _set(installation, service, None if share == "off" else int(share))
            case _:
                parser.error(
                    f"{' '.join(words)!r} is none of its forms; SERVICE is one of {', '.join(installation.catalog)}"
                )
    except (ChangeFailed, ReloadFailed, ValueError, OSError) as error:
        print(f"traffic: {error}", file=sys.stderr)  # noqa: T201 - this is the command's interface
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="traffic",
        usage="traffic [--help] [SERVICE 0..100 | SERVICE off | check SERVICE]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    return parser


def _show(installation: Installation) -> int:
    _say(state_text(read_weights(installation.release_file)))
    return 0


def _set(installation: Installation, service: str, weight: int | None) -> int:
    _say(state_text(set_share(installation, service, weight)))
    return 0


def _check(installation: Installation, service: str) -> int:
    findings = examine(installation.candidate_of(service))
    for finding in findings:
        print(finding, file=sys.stderr if finding.problems else sys.stdout)
    return 1 if any(finding.problems for finding in findings) else 0


def _say(text: str) -> None:
    print(text)  # noqa: T201 - this is the command's interface


if __name__ == "__main__":
    sys.exit(main())
