"""The command line: `python3 -m release_tool`, which `make prod`, `make release` and others call."""

import argparse
import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from opskit.catalog import CatalogError
from release_tool import cluster_platform, project
from release_tool.cluster_platform import ClusterDeployment
from release_tool.console import Console
from release_tool.deployment import Deployment
from release_tool.errors import Interrupted, ToolError
from release_tool.release import Plan, Releases

Command = Callable[[argparse.Namespace, Console], None]
# What `--environment` means besides the two compose files: the cluster that KUBECONFIG names.
CLUSTER = "cluster"
ALL = ("development", CLUSTER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0; 1 after a message on standard error; 128 plus the number of a signal."""
    values = _parser().parse_args(arguments)
    command: Command = values.command
    try:
        with interruptible():
            command(values, Console())
    except (ToolError, CatalogError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interruption:
        return 128 + interruption.number
    return 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`; a SIGHUP that nohup ignores stays ignored."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the orderly end after the first one.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m release_tool",
        description="Bring the platform up in containers, and release services without a failed request.",
        epilog="SECRETS_DIR (default .secrets/production or .secrets/development) holds secrets and the state of a "
        "release; COMPOSE_PROJECT_NAME, GATEWAY_BIND, GATEWAY_PORT and the other settings of the compose files apply "
        "as in compose.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, text: str, command: Command, *others: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        added.add_argument("--environment", choices=("production", *others), default="production")
        return added

    add("secrets", "make the missing secrets; existing ones stay, and none is printed", _secrets, "development")
    add("images", "build all images; with REGISTRY push them, too", _images, CLUSTER)
    add("up", "make secrets, build images, start everything and wait until it is healthy", _up, *ALL)
    down = add("down", "stop and remove all containers; the data stays", _down, *ALL)
    down.add_argument("--volumes", action="store_true", help="remove the data, too")
    logs = add("logs", "follow the logs", _logs, *ALL)
    logs.add_argument("services", nargs="*", metavar="SERVICE")
    _add_release(
        add("release", "bring a new version of a service into service without a failed request", _release, CLUSTER)
    )
    rollback = add("rollback", "undo an unfinished release", _rollback, CLUSTER)
    rollback.add_argument("service", metavar="SERVICE")
    restart = add("restart", "replace every replica, one after the other", _restart, CLUSTER)
    restart.add_argument("services", nargs="*", metavar="SERVICE", help="default: all services")
    rotate_keys = add(
        "rotate-keys", "replace the keys between services, on the running platform", _rotate_keys, CLUSTER
    )
    rotate_keys.add_argument("--pair", help="one pair only, such as notes--user")
    add("rotate-jwt-key", "replace the key that signs access tokens, on the running platform", _rotate_jwt_key, CLUSTER)
    admin = add("admin", "give an account the role admin", _admin, CLUSTER)
    admin.add_argument("username", metavar="USERNAME")
    return parser


def _add_release(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument("--tag", help="an existing image, or the name of the one to build (default: the revision)")
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
    """Return the shares; 100 is added as the last one. Raises ArgumentTypeError."""
    try:
        steps = [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of per cent") from error
    if not all(1 <= step <= 100 for step in steps) or steps != sorted(set(steps)):
        raise argparse.ArgumentTypeError(f"{text!r} has to ascend, from 1 to 100")
    return (*steps, 100) if 100 not in steps else tuple(steps)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to a day")
    return seconds


def _secrets(values: argparse.Namespace, console: Console) -> None:
    Deployment(values.environment, console).write_secrets()


def _images(_values: argparse.Namespace, console: Console) -> None:
    cluster_platform.build_images(ClusterDeployment(console))


def _up(values: argparse.Namespace, console: Console) -> None:
    if values.environment == CLUSTER:
        cluster_platform.bring_up(ClusterDeployment(console))
    else:
        project.bring_up(Deployment(values.environment, console))


def _down(values: argparse.Namespace, console: Console) -> None:
    if values.environment == CLUSTER:
        cluster_platform.bring_down(ClusterDeployment(console), volumes=values.volumes)
    else:
        project.bring_down(Deployment(values.environment, console), volumes=values.volumes)


def _logs(values: argparse.Namespace, console: Console) -> None:
    if values.environment == CLUSTER:
        cluster_platform.show_logs(ClusterDeployment(console), values.services)
    else:
        project.show_logs(Deployment(values.environment, console), values.services)


def _release(values: argparse.Namespace, console: Console) -> None:
    plan = Plan(values.service, values.steps, values.step_seconds)
    with _releases(values, f"release of {plan.service}", console) as releases:
        releases.release(plan, values.tag)


def _rollback(values: argparse.Namespace, console: Console) -> None:
    with _releases(values, f"rollback of {values.service}", console) as releases:
        releases.rollback(values.service)


def _restart(values: argparse.Namespace, console: Console) -> None:
    with _releases(values, "restart", console) as releases:
        releases.restart(values.services)


@contextmanager
def _releases(values: argparse.Namespace, action: str, console: Console) -> Iterator[Releases]:
    deployment = ClusterDeployment(console) if values.environment == CLUSTER else Deployment("production", console)
    with deployment.locked(action):
        yield Releases(
            deployment.orchestrator,
            deployment.journals,
            deployment.catalog,
            console,
            for_operators=deployment.for_operators,
        )


def _rotate_keys(values: argparse.Namespace, console: Console) -> None:
    _run_tool(values, console, "rotate-keys", ["--pair", values.pair] if values.pair else [])


def _rotate_jwt_key(values: argparse.Namespace, console: Console) -> None:
    _run_tool(values, console, "rotate-jwt-key", [])


def _run_tool(values: argparse.Namespace, console: Console, tool: str, arguments: Sequence[str]) -> None:
    if values.environment == CLUSTER:
        cluster_platform.run_tool(ClusterDeployment(console), tool, arguments)
    else:
        project.run_tool(Deployment("production", console), tool, arguments)


def _admin(values: argparse.Namespace, console: Console) -> None:
    if values.environment == CLUSTER:
        cluster_platform.make_admin(ClusterDeployment(console), values.username)
    else:
        project.make_admin(Deployment("production", console), values.username)


if __name__ == "__main__":
    sys.exit(main())
