"""`python3 -m release_tool`: the commands behind `make prod`, `make release` and their like."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence

from opskit.catalog import CatalogError
from release_tool import project, release_commands
from release_tool.console import Console
from release_tool.deployment import Deployment
from release_tool.errors import Interrupted, ToolError
from release_tool.release import Plan
from release_tool.runner import interruptible

Command = Callable[[argparse.Namespace, Console], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0; 1 after a message on standard error; 128 plus the number of a signal."""
    values = _parser().parse_args(arguments)
    command: Command = values.command
    try:
        with interruptible():
            command(values, Console())
    except (ToolError, CatalogError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interruption:
        return 128 + interruption.number
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m release_tool",
        description="Bring the platform up in containers, and release services without a failed request.",
        epilog="SECRETS_DIR (default .secrets/production or .secrets/development) holds secrets and the state of a "
        "release; COMPOSE_PROJECT_NAME, GATEWAY_BIND, GATEWAY_PORT and the other settings of the compose files apply "
        "as in compose.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, text: str, command: Command) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    def choose_environment(added: argparse.ArgumentParser) -> None:
        added.add_argument("--environment", choices=("production", "development"), default="production")

    choose_environment(
        add("secrets", "make the secrets that are missing; existing ones stay, none is printed", _secrets)
    )
    choose_environment(add("up", "make secrets, build images, start everything and wait until it is healthy", _up))
    down = add("down", "stop and remove all containers; the data stays", _down)
    choose_environment(down)
    down.add_argument("--volumes", action="store_true", help="remove the data, too")
    logs = add("logs", "follow the logs", _logs)
    choose_environment(logs)
    logs.add_argument("services", nargs="*", metavar="SERVICE")
    _add_release(add("release", "bring a new version of a service into service without a failed request", _release))
    undo = add("rollback", "undo an unfinished release", _rollback)
    undo.add_argument("service", metavar="SERVICE")
    again = add("restart", "replace every replica, one after the other", _restart)
    again.add_argument("services", nargs="*", metavar="SERVICE", help="all services unless some are named")
    rotate = add("rotate-keys", "replace the keys between services, on the running platform", _rotate_keys)
    rotate.add_argument("--pair", help="one pair only, such as notes--user")
    add("rotate-jwt-key", "replace the key that signs access tokens, on the running platform", _rotate_jwt_key)
    admin = add("admin", "give an account the role admin", _admin)
    admin.add_argument("username", metavar="USERNAME")
    return parser


def _add_release(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument(
        "--tag", help="an image that exists, or the name for the one to build (default: of the revision)"
    )
    parser.add_argument(
        "--steps", type=_steps, default=_steps("5 25 50 100"), help="per cent of the traffic (default '5 25 50 100')"
    )
    parser.add_argument(
        "--step-seconds",
        type=_seconds,
        default=10.0,
        help="how long each step is watched (default 10)",
        metavar="SECONDS",
    )


def _steps(text: str) -> tuple[int, ...]:
    """Return the shares; the last one is always 100. Raises ArgumentTypeError."""
    try:
        steps = [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of per cent") from error
    if not all(1 <= step <= 100 for step in steps) or steps != sorted(set(steps)):
        raise argparse.ArgumentTypeError(f"{text!r} has to ascend, from 1 to 100")
    return (*steps, 100) if 100 not in steps else tuple(steps)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds up to a day")
    return seconds


def _secrets(values: argparse.Namespace, console: Console) -> None:
    Deployment(values.environment, console).write_secrets()


def _up(values: argparse.Namespace, console: Console) -> None:
    project.bring_up(Deployment(values.environment, console))


def _down(values: argparse.Namespace, console: Console) -> None:
    project.bring_down(Deployment(values.environment, console), volumes=values.volumes)


def _logs(values: argparse.Namespace, console: Console) -> None:
    project.show_logs(Deployment(values.environment, console), values.services)


def _release(values: argparse.Namespace, console: Console) -> None:
    plan = Plan(values.service, values.steps, values.step_seconds)
    release_commands.release(Deployment("production", console), plan, values.tag)


def _rollback(values: argparse.Namespace, console: Console) -> None:
    release_commands.rollback(Deployment("production", console), values.service)


def _restart(values: argparse.Namespace, console: Console) -> None:
    release_commands.restart(Deployment("production", console), values.services)


def _rotate_keys(values: argparse.Namespace, console: Console) -> None:
    arguments = ["--pair", values.pair] if values.pair else []
    project.run_tool(Deployment("production", console), "rotate-keys", arguments)


def _rotate_jwt_key(_values: argparse.Namespace, console: Console) -> None:
    project.run_tool(Deployment("production", console), "rotate-jwt-key", [])


def _admin(values: argparse.Namespace, console: Console) -> None:
    project.make_admin(Deployment("production", console), values.username)


if __name__ == "__main__":
    sys.exit(main())
