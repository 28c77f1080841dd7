"""Rendering: what the files contain, what is refused, and that files are replaced atomically."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_config import Canary, GatewaySettings, RenderError, render
from gateway_config.__main__ import main
from gateway_config.render import STATIC_FILES, rendered_files
from opskit.catalog import ServiceEntry, read_catalog

USER = ServiceEntry("user", "users", 8002, "postgres", well_known=("/.well-known/jwks.json",))
NOTES = ServiceEntry("notes", "notes", 8003, "mongo")
FIFTH = ServiceEntry("fifth_service", "fifth-things", 8005, "mongo", well_known=("/.well-known/fifth",))
CATALOG = {"user": USER, "notes": NOTES}
SERVERS = {"user": ["127.0.0.1:9001", "127.0.0.1:9002"], "notes": ["[::1]:9003"]}


def upstreams(
    settings: GatewaySettings, catalog: Mapping[str, ServiceEntry], servers: Mapping[str, list[str]], weight: int | None
) -> str:
    canaries = {} if weight is None else {name: Canary(["127.0.0.1:9009"], weight) for name in catalog}
    return rendered_files(settings, catalog, servers, canaries)["http/upstreams.conf"]


def test_nginx_resolves_names_itself() -> None:
    text = upstreams(GatewaySettings(resolver="127.0.0.11"), {"user": USER}, {"user": ["localhost:8000"]}, None)

    assert "server localhost:8000 max_fails=1 fail_timeout=1s resolve;" in text


def test_another_service_needs_only_its_entry() -> None:
    text = upstreams(GatewaySettings(), {"fifth_service": FIFTH}, {"fifth_service": ["127.0.0.1:9005"]}, None)

    assert '"~^/api/v1/fifth-things(?:/|$)" "fifth_service_v1";' in text
    assert '"/.well-known/fifth" "fifth_service_v1";' in text


@pytest.mark.parametrize(("weight", "drawn"), [(0, False), (1, True), (99, True), (100, False)])
def test_requests_are_drawn_only_for_weights_between_0_and_100(weight: int, drawn: bool) -> None:
    assert ("split_clients" in upstreams(GatewaySettings(), CATALOG, SERVERS, weight)) == drawn


def test_every_server_is_only_in_the_pool_of_its_service() -> None:
    text = upstreams(GatewaySettings(), CATALOG, SERVERS, None)

    pools = {pool.split(" ", 1)[0]: pool.partition("}")[0] for pool in text.split("upstream ")[1:]}
    assert set(pools) == {"user_v1", "probe_user_v1", "notes_v1", "probe_notes_v1"}
    for name, pool in pools.items():
        service = name.removeprefix("probe_").removesuffix("_v1")
        for other, servers in SERVERS.items():
            assert all((server in pool) == (other == service) for server in servers)


def test_direct_ports_are_off_by_default() -> None:
    assert rendered_files(GatewaySettings(), CATALOG, SERVERS)["http/direct_listeners.conf"] == ""


@pytest.mark.parametrize(("path", "buffered"), [("access.log", True), ("/dev/stdout", False)])
def test_the_access_log_is_buffered_in_files_and_not_on_devices(path: str, buffered: bool) -> None:
    text = rendered_files(GatewaySettings(access_log=path), CATALOG, SERVERS)["http/access_log.conf"]

    assert ("buffer=32k flush=1s" in text) == buffered


REFUSED: list[tuple[str, Mapping[str, ServiceEntry], Mapping[str, list[str]]]] = [
    ("notes has no server", CATALOG, {"user": ["127.0.0.1:1"]}),
    ("notes has no server", CATALOG, {**SERVERS, "notes": []}),
    ("extra", CATALOG, {**SERVERS, "extra": ["127.0.0.1:1"]}),
    ("is not host:port", CATALOG, {**SERVERS, "notes": ["127.0.0.1"]}),
    ("is not host:port", CATALOG, {**SERVERS, "notes": ["127.0.0.1:1; include /etc/passwd"]}),
    ("is not host:port", CATALOG, {**SERVERS, "notes": ["http://127.0.0.1:1"]}),
    ("is not host:port", CATALOG, {**SERVERS, "notes": ["$host:1"]}),
    ("GATEWAY_RESOLVER", CATALOG, {**SERVERS, "notes": ["notes:8000"]}),
    ("cannot be routed", {"a b": replace(NOTES, name="a b")}, {"a b": ["127.0.0.1:1"]}),
    ("cannot be routed", {"notes": replace(NOTES, prefix="")}, {"notes": ["127.0.0.1:1"]}),
    ("cannot be routed", {"notes": replace(NOTES, prefix="a/b")}, {"notes": ["127.0.0.1:1"]}),
    ("cannot be routed", {"notes": replace(NOTES, prefix=".*")}, {"notes": ["127.0.0.1:1"]}),
    ("well-known", {"notes": replace(NOTES, well_known=("/metrics",))}, {"notes": ["127.0.0.1:1"]}),
    ("well-known", {"notes": replace(NOTES, well_known=('/.well-known/"',))}, {"notes": ["127.0.0.1:1"]}),
]


@pytest.mark.parametrize(("reason", "catalog", "servers"), REFUSED)
def test_an_invalid_service_or_server_is_refused_before_anything_is_written(
    reason: str, catalog: Mapping[str, ServiceEntry], servers: Mapping[str, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(RenderError, match=reason):
        render(GatewaySettings(), catalog, servers, tmp_path / "target")

    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("reason", "name", "canary"),
    [
        ("extra", "extra", Canary(["127.0.0.1:1"], 5)),
        ("canary of notes has no server", "notes", Canary([], 5)),
        ("canary of notes: '127.0.0.1' is not host:port", "notes", Canary(["127.0.0.1"], 5)),
        ("GATEWAY_RESOLVER", "notes", Canary(["notes-v2:8000"], 5)),
        ("cannot get 101", "notes", Canary(["127.0.0.1:1"], 101)),
        ("cannot get -1", "notes", Canary(["127.0.0.1:1"], -1)),
    ],
)
def test_an_invalid_canary_is_refused_before_anything_is_written(
    reason: str, name: str, canary: Canary, tmp_path: Path
) -> None:
    with pytest.raises(RenderError, match=reason):
        render(GatewaySettings(), CATALOG, SERVERS, tmp_path / "target", canaries={name: canary})

    assert not (tmp_path / "target").exists()


def listing(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "static")
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_rendering_again_changes_only_what_differs(tmp_path: Path) -> None:
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)
    first = listing(tmp_path)

    render(GatewaySettings(port=9999), CATALOG, SERVERS, tmp_path)

    second = listing(tmp_path)
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == ["rendered/listen.conf"]


def test_the_end_of_a_release_restores_the_earlier_files(tmp_path: Path) -> None:
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)
    before = listing(tmp_path)
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path, canaries={"notes": Canary(["127.0.0.1:9009"], 5)})
    during = listing(tmp_path)

    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)

    assert listing(tmp_path) == before
    assert [name for name in before if before[name] != during[name]] == ["rendered/http/upstreams.conf"]


async def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """A reload may read while the renderer writes."""
    listen = tmp_path / "rendered" / "listen.conf"
    texts = set()
    for port in (1000, 2000):
        render(GatewaySettings(port=port), CATALOG, SERVERS, tmp_path)
        texts.add(listen.read_text())
    done = asyncio.Event()

    def write() -> None:
        for number in range(40):
            render(GatewaySettings(port=1000 + 1000 * (number % 2)), CATALOG, SERVERS, tmp_path)

    async def read() -> set[str]:
        seen = set()
        while not done.is_set():
            seen.add(listen.read_text())
            await asyncio.sleep(0)
        return seen

    reader = asyncio.create_task(read())
    await asyncio.to_thread(write)
    done.set()
    assert await reader <= texts


def test_files_can_be_read_by_the_workers_of_another_user(tmp_path: Path) -> None:
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)

    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "rendered").rglob("*.conf")} == {0o644}


def test_the_static_files_are_linked_and_not_copied(tmp_path: Path) -> None:
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)

    assert (tmp_path / "static").resolve() == STATIC_FILES
    assert (tmp_path / "nginx.conf").resolve() == STATIC_FILES / "nginx.conf"


# The command


def test_the_command_renders_from_the_environment(tmp_path: Path) -> None:
    servers = [argument for name in read_catalog() for argument in ("--server", f"{name}=127.0.0.1:1,127.0.0.1:2")]

    result = subprocess.run(
        [sys.executable, "-m", "gateway_config", str(tmp_path), *servers],
        env={**os.environ, "GATEWAY_PORT": "9999", "GATEWAY_RATE_AUTH": "3"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "rendered" / "listen.conf").read_text() == "listen 127.0.0.1:9999;\n"
    assert (tmp_path / "rendered" / "limits" / "auth.conf").read_text() == "limit_req zone=auth burst=6 nodelay;\n"
    assert "127.0.0.1:2" in (tmp_path / "rendered" / "http" / "upstreams.conf").read_text()


@pytest.mark.parametrize(
    ("options", "rate", "word"), [([], "five", "GATEWAY_RATE_AUTH"), (["--server", "user"], "5", "SERVICE=HOST:PORT")]
)
def test_the_command_reports_an_error_in_one_line(
    options: list[str],
    rate: str,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GATEWAY_RATE_AUTH", rate)

    assert main([str(tmp_path / "target"), *options]) == 2

    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert word in errors
    assert not (tmp_path / "target").exists()


def test_the_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    assert "--server" in capsys.readouterr().out
