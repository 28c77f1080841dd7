"""The commands of `python -m local_platform` and their options.

Each command imports what it needs when it is called: the imports of all of them together take longer than most of
them run.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from local_platform.cli.streams import TolerantStream
from local_platform.errors import InvalidOption, UserError
from opskit.catalog import CatalogError, ServiceEntry, Store, read_catalog

PROGRAM = "python -m local_platform"

RUN_SETTINGS = """\
Services and gateway take their settings from the environment: MAX_UPLOAD_BYTES, USER_RATE, SERVICE_CIPHER,
DISPATCH_TRANSPORT, LOG_LEVEL, LOG_LEVELS, and GATEWAY_RATE_GENERAL, GATEWAY_RATE_AUTH, GATEWAY_RATE_UPLOAD (requests
per second and address, 0 = off).

POSTGRES_URL, MONGO_URL and VALKEY_URL name servers that run already; they count only where no binary is found.
"""

DataDir = Annotated[Path, typer.Option(envvar="DATA_DIR", help="The directory that `make run` was given.")]
ServiceName = Annotated[str, typer.Argument(metavar="SERVICE", help="A service of deploy/services.toml.")]
Timeout = Annotated[float | None, typer.Option(help="Time to wait for all workers in each phase.", metavar="SECONDS")]
DATA_DIR = Path(".data")
_VARIABLES = {"DATA_DIR": ".data", "GATEWAY_PORT": "8080", "REPLICAS": "2", "MONGO_NODES": "3"}
# Options that a command does not know go to the module that it runs.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def _exit(status: int | None) -> None:
    raise typer.Exit(status or 0)


app = typer.Typer(
    help="Run the platform on this machine, without Docker, and work on the platform that runs.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"max_content_width": 120},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    result_callback=_exit,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 1 after an error message, 2 for wrong usage."""
    try:
        _check_variables()
        app(arguments, prog_name=PROGRAM)
    except SystemExit as end:
        return int(end.code or 0)
    except (UserError, CatalogError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(": ".join(filter(None, [error.strerror or str(error), error.filename])))
    return 0


def _check_variables() -> None:
    """Refuse a make variable that no command can read, in the words that its user typed. Raises InvalidOption."""
    for name, example in _VARIABLES.items():
        value = os.environ.get(name)
        if value is not None and not value.strip():
            raise InvalidOption(f"{name} is empty; leave it out, or give it a value such as {name}={example}")
        if value is not None and name != "DATA_DIR" and not (value.strip().isascii() and _is_whole(value)):
            raise InvalidOption(f"{name}={value} is not a whole number; use one such as {name}={example}")


def _is_whole(value: str) -> bool:
    return value.strip().removeprefix("-").isdigit()


def _fail(message: str) -> int:
    print(f"error: {message}", file=TolerantStream(sys.stderr), flush=True)
    return 1


@app.command(epilog=RUN_SETTINGS)
def run(
    gateway_port: Annotated[
        int, typer.Option(envvar="GATEWAY_PORT", help="The gateway's port on 127.0.0.1; 0 takes any free one.")
    ] = 8080,
    data_dir: Annotated[
        Path, typer.Option(envvar="DATA_DIR", help="Directory for all data, secrets and logs.")
    ] = DATA_DIR,
    replicas: Annotated[int, typer.Option(envvar="REPLICAS", help="Replicas of each service.")] = 1,
    mongo_nodes: Annotated[int, typer.Option(envvar="MONGO_NODES", help="Nodes of the MongoDB replica set.")] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", envvar="RELOAD", help="Start a service anew when its code changes.")
    ] = False,
    console: Annotated[
        bool, typer.Option("--console/--no-console", envvar="CONSOLE", help="Whether the console runs: on or off.")
    ] = True,
) -> int:
    """Start the platform and run it until Ctrl-C or SIGTERM.

    Data, secrets and keys stay in DATA_DIR for the next start.
    """
    from local_platform.supervision.forked_process import start_fork_server

    # It imports the services' packages while this process imports the launcher.
    start_fork_server()
    from local_platform.cli.run import run_platform
    from local_platform.platform.options import Options

    return run_platform(Options(data_dir, gateway_port, replicas, mongo_nodes, reload=reload, console=console))


@app.command()
def demo(data_dir: DataDir = DATA_DIR) -> int:
    """Take a tour that checks what the running platform claims."""
    from local_platform.cli.demo import take_tour

    return take_tour(data_dir)


@app.command()
def admin(username: Annotated[str, typer.Argument(metavar="USERNAME")], data_dir: DataDir = DATA_DIR) -> int:
    """Give an account the role admin."""
    from local_platform.platform.running import run_module

    accounts = _token_issuer()
    return run_module(data_dir, accounts, f"{accounts.package}.admin", [username])


@app.command()
def keys(
    data_dir: DataDir = DATA_DIR,
    keys_dir: Annotated[Path | None, typer.Option(help="Write here instead, one directory for each service.")] = None,
) -> int:
    """Write the missing keys between services. Existing keys stay."""
    from local_platform.layout import Layout
    from local_platform.platform.service_environment import keys_directory
    from servicekit.ops.make_keys import make_missing

    return make_missing(keys_dir or keys_directory(Layout.prepare(data_dir)), read_catalog(operators=True))


@app.command(context_settings=PASS_ON)
def rotate_keys(
    context: typer.Context,
    data_dir: DataDir = DATA_DIR,
    pair: Annotated[str | None, typer.Option(help="One pair only, such as analytics--user.")] = None,
    timeout: Timeout = None,
) -> int:
    """Replace the keys between services; no call is lost."""
    from local_platform.platform.running import running_layout
    from local_platform.platform.service_environment import keys_directory
    from servicekit.ops.rotation import command

    layout = running_layout(data_dir)
    options = ["--keys-dir", str(keys_directory(layout)), "--run-file", str(layout.run_file)]
    return command.main([*options, *_given("--pair", pair), *_given("--timeout", timeout), *context.args])


@app.command(context_settings=PASS_ON)
def rotate_jwt_key(context: typer.Context, data_dir: DataDir = DATA_DIR, timeout: Timeout = None) -> int:
    """Replace the key that signs access tokens; sessions stay."""
    from local_platform.platform.running import run_module, running_layout

    accounts = _token_issuer()
    options = ["--run-file", str(running_layout(data_dir).run_file), *_given("--timeout", timeout), *context.args]
    return run_module(data_dir, accounts, f"{accounts.package}.rotate_signing_key", options)


@app.command()
def migration(
    service: ServiceName,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What the migration does, such as 'add a column'.")],
) -> int:
    """Write a service's next migration from its models. No platform needs to run."""
    from local_platform.cli.migration import print_migration

    return print_migration(_service(service, store="postgres"), message)


@app.command()
def new_service(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its folder, database and path: /api/v1/NAME.")],
    store: Annotated[Store, typer.Argument(metavar="STORE", help="The engine of its database.")],
) -> int:
    """Write a small working service with tests, and register it."""
    from local_platform.new_service.command import write_and_explain

    return write_and_explain(name, store)


@app.command()
def remove_service(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A service of deploy/services.toml, except user.")],
    force: Annotated[
        bool, typer.Option("--force", envvar="FORCE", help="Go on with uncommitted changes, or outside of git.")
    ] = False,
) -> int:
    """Remove a service, and what the rest of the repository has of it."""
    from local_platform.remove_service.command import remove_and_explain

    return remove_and_explain(name, force=force)


@app.command()
def describe(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Such as clients/openapi.json.")],
) -> int:
    """Write the description of the API that this code has. No platform needs to run."""
    from local_platform.cli.describe import write_description

    return write_description(target)


@app.command()
def logs(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]…", help="Services or processes of run.json (default: all).")
    ] = None,
    request: Annotated[str, typer.Option(help="Print the lines with this request, correlation or trace id.")] = "",
    data_dir: DataDir = DATA_DIR,
) -> int:
    """Follow the logs of the running platform, without probes."""
    from local_platform.cli.logs import show

    return show(data_dir, names or (), request.strip())


@app.command()
def call(
    caller: Annotated[str, typer.Argument(metavar="FROM", help="The service that calls.")],
    peer: Annotated[str, typer.Argument(metavar="TO", help="The service that is called.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Such as /api/v1/users/stats/count.")],
    method: Annotated[str | None, typer.Option(help="The HTTP method (default: GET, and POST with a body).")] = None,
    body: Annotated[str | None, typer.Option(help="A JSON body.")] = None,
    data_dir: DataDir = DATA_DIR,
) -> int:
    """Send one sealed call by hand, and show both sides of it."""
    from local_platform.platform.running import run_module

    options = [*_given("--method", method), *_given("--body", body)]
    return run_module(data_dir, _service(caller), "servicekit.ops.call", [*options, "--", peer, path])


@app.command("exec", context_settings={**PASS_ON, "allow_interspersed_args": False})
def execute(
    context: typer.Context,
    service: ServiceName,
    module: Annotated[
        str,
        typer.Argument(metavar="MODULE", help="A module, such as analytics_service.check; its arguments follow."),
    ],
    data_dir: DataDir = DATA_DIR,
) -> int:
    """Run a module in the environment of a service."""
    from local_platform.platform.running import run_module

    return run_module(data_dir, _service(service), module, context.args)


def _service(name: str, *, store: Store | None = None) -> ServiceEntry:
    """Return a service of the list, on this store if one is named. Raises BadParameter."""
    catalog = {key: entry for key, entry in read_catalog(operators=True).items() if store in (None, entry.store)}
    if name not in catalog:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(catalog)}.", param_hint="'SERVICE'")
    return catalog[name]


def _token_issuer() -> ServiceEntry:
    return next(entry for entry in read_catalog().values() if entry.issues_tokens)


def _given(option: str, value: object) -> list[str]:
    return [] if value is None else [option, str(value)]
