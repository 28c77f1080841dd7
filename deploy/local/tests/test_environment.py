"""Which variables of the caller's environment reach the platform."""

import importlib
import os
import subprocess
import sys

import pytest

from local_platform.environment import keep_known_variables, known_variables
from local_platform.errors import InvalidOption
from local_platform.platform.options import Options
from local_platform.platform.service_environment import service_environment
from local_platform.supervision.process import Command, spawn
from opskit.catalog import read_catalog

STRAY = [
    *("http_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "PGSSLMODE", "PGOPTIONS", "PGSERVICEFILE", "PGDATA"),
    *("ENVIRONMENT", "GUNICORN_CMD_ARGS", "LD_PRELOAD", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS"),
    *("OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_HEADERS", "LOG_DIR", "LOG_NAME", "LOG_FILE", "LOG_LEVEL_FILE"),
    *("USER_RATE_FILE", "DATABASE_URL_FILE", "SERVICE_NAME", "PEER_URLS", "JWT_KEYS_DIR", "WEB_CONCURRENCY"),
    *("PROMETHEUS_MULTIPROC_DIR", "MALLOC_ARENA_MAX", "DOCKER_HOST", "VIRTUAL_ENV", "UV_PYTHON"),
]
# What the launcher decides for each service.
DECIDED = {
    *("service_name", "environment", "log_dir", "log_name", "valkey_url", "service_keys_dir", "peer_urls"),
    *("gateway_networks", "fingerprint_secret", "database_url", "mongo_url", "web_concurrency", "jwt_keys_dir"),
    *("assets_dir", "assets_x_accel", "link_secret", "console_url"),
}


@pytest.fixture
def stray_environment(monkeypatch) -> None:
    for name in STRAY:
        monkeypatch.setenv(name, "stray")


def test_a_service_gets_nothing_that_the_callers_shell_holds_for_other_programs(layout, stray_environment):
    for entry in read_catalog().values():
        assert "stray" not in service_environment(layout, entry).values()


@pytest.mark.parametrize("name", ["CONSOLE", "FORCE", "RELOAD"])
def test_what_the_launchers_commands_read_stays_for_them_alone(layout, monkeypatch, name):
    monkeypatch.setenv(name, "on")
    keep_known_variables("PYTEST")

    assert os.environ[name] == "on"
    assert name not in service_environment(layout, read_catalog()["user"])


async def test_a_server_gets_nothing_that_the_callers_shell_holds_for_other_programs(layout, stray_environment):
    log = layout.log("env")
    process = await spawn(Command(argv=["/usr/bin/env"], directory=layout.work("env"), log=log))
    assert await process.wait() == 0
    assert "PATH=" in log.read_text()
    assert "stray" not in log.read_text()


def test_options_are_checked_without_strays(tmp_path, stray_environment):
    Options(tmp_path).check()


@pytest.mark.parametrize("service", list(read_catalog()))
def test_every_setting_of_a_service_is_passed_on(service):
    fields = importlib.import_module(f"{service}_service.settings").Settings.model_fields
    names = {name.upper() for name in fields.keys() - DECIDED}
    assert known_variables(dict.fromkeys(names, "x")).keys() == names


def test_what_processes_need_is_passed_on():
    names = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    assert set(known_variables(dict.fromkeys(names, "x"))) == set(names)


def test_names_that_are_asked_for_stay(monkeypatch, stray_environment):
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "CASES": "3", "PGDATA": "x"})
    keep_known_variables("CASES")
    assert os.environ == {"PATH": "/bin", "CASES": "3"}


def test_the_launchers_own_process_holds_no_stray_variable(tmp_path):
    # `sitecustomize` shows the environment at the process's end.
    code = "import atexit, os\natexit.register(lambda: print(sorted(os.environ)))"
    (tmp_path / "sitecustomize.py").write_text(code)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PGSSLMODE": "x", "http_proxy": "x"}
    done = subprocess.run(
        [sys.executable, "-m", "local_platform", "--help"], env=environment, capture_output=True, text=True, check=True
    )
    assert "'PYTHONPATH'" in done.stdout
    assert "PGSSLMODE" not in done.stdout
    assert "http_proxy" not in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_LEVELS", "sqlalchemy"),
        ("LOG_LEVELS", "sqlalchemy=LOUD"),
        ("SERVICE_CIPHER", "rot13"),
        ("DISPATCH_TRANSPORT", "httpx"),
        ("USER_RATE", "-1"),
        ("USER_RATE", "many"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "no address"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        pytest.param("USER_QUOTA_BYTES", "0", marks=pytest.mark.needs("assets")),
        ("DATABASE_CONNECTIONS", "none"),
    ],
)
def test_a_value_that_a_service_would_refuse_is_refused_before_anything_starts(tmp_path, name, value):
    with pytest.raises(InvalidOption, match=f"^{name}={value} is invalid: "):
        Options(tmp_path, settings={name: value}).check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_FORMAT", "console"),
        ("LOG_LEVEL", "debug"),
        ("LOG_LEVELS", "sqlalchemy=INFO, aiohttp=error"),
        ("SERVICE_CIPHER", "aes-256-gcm"),
        ("DISPATCH_TRANSPORT", "httpx2"),
        ("USER_RATE", "0"),
        ("USER_RATE", ""),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
    ],
)
def test_a_value_that_a_service_takes_is_taken(tmp_path, name, value):
    Options(tmp_path, settings={name: value}).check()
