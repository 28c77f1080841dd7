"""Rendering: NGINX accepts what comes out, nothing else can be made to come out, and files are replaced whole."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config import Candidate, GatewaySettings, RenderError, render
from gateway_config.render import STATIC_FILES, rendered_files
from opskit.catalog import ServiceEntry, read_catalog

USER = ServiceEntry("user", "users", 8002, "postgres", well_known=("/.well-known/jwks.json",))
NOTES = ServiceEntry("notes", "notes", 8003, "mongo")
FIFTH = ServiceEntry("fifth_service", "fifth-things", 8005, "mongo", well_known=("/.well-known/fifth",))
CATALOG = {"user": USER, "notes": NOTES}
SERVERS = {"user": ["127.0.0.1:9001", "127.0.0.1:9002"], "notes": ["[::1]:9003"]}

VARIANTS: dict[str, GatewaySettings] = {
    "default": GatewaySettings(),
    "all limits off": GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0),
    "IPv6": GatewaySettings(bind="::1"),
    "behind proxies": GatewaySettings(trusted_proxies=("10.0.0.0/8", "2001:db8::/32")),
    "with origins": GatewaySettings(cors_allowed_origins=("https://a.example", "http://[::1]:3000")),
    "paths with spaces": GatewaySettings(access_log="an access.log"),
    "direct ports": GatewaySettings(direct_ports=True),
}


@pytest.fixture
def here(machine: GatewaySettings) -> Callable[[GatewaySettings], GatewaySettings]:
    """Settings as this machine's NGINX needs them."""
    return lambda settings: replace(settings, modules=machine.modules, worker_user=machine.worker_user)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
async def test_nginx_accepts_the_configuration(
    settings: GatewaySettings, here: Any, check: Callable[[Path], Awaitable[str]], tmp_path: Path
) -> None:
    render(here(settings), CATALOG, SERVERS, tmp_path)

    assert await check(tmp_path) == ""


async def test_nginx_accepts_names_that_it_resolves_itself(here: Any, check: Any, tmp_path: Path) -> None:
    for resolver in ("127.0.0.11", "::1"):
        render(here(GatewaySettings(resolver=resolver)), {"user": USER}, {"user": ["localhost:8000"]}, tmp_path)

        assert await check(tmp_path) == ""
        assert "server localhost:8000 max_fails=1 fail_timeout=1s resolve;" in upstreams(tmp_path)


async def test_nginx_accepts_the_services_of_the_list(here: Any, check: Any, tmp_path: Path) -> None:
    catalog = read_catalog()

    render(here(GatewaySettings()), catalog, {name: ["127.0.0.1:9001"] for name in catalog}, tmp_path)

    assert await check(tmp_path) == ""


async def test_another_service_needs_no_more_than_its_entry(here: Any, check: Any, tmp_path: Path) -> None:
    render(here(GatewaySettings()), {"fifth_service": FIFTH}, {"fifth_service": ["127.0.0.1:9005"]}, tmp_path)

    assert await check(tmp_path) == ""
    assert '"~^/api/v1/fifth-things(?:/|$)" "fifth_service_v1";' in upstreams(tmp_path)
    assert '"/.well-known/fifth" "fifth_service_v1";' in upstreams(tmp_path)


@pytest.mark.parametrize("weight", [0, 1, 99, 100])
async def test_nginx_accepts_every_share_of_a_release(here: Any, check: Any, tmp_path: Path, weight: int) -> None:
    candidates = {name: Candidate(["127.0.0.1:9009"], weight) for name in CATALOG}

    render(here(GatewaySettings()), CATALOG, SERVERS, tmp_path, candidates=candidates)

    assert await check(tmp_path) == ""
    assert ("split_clients" in upstreams(tmp_path)) == (0 < weight < 100)


def test_what_a_release_leaves_behind_is_what_was_before(tmp_path: Path) -> None:
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)
    before = listing(tmp_path)
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path, candidates={"notes": Candidate(["127.0.0.1:9009"], 5)})
    during = listing(tmp_path)

    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)

    assert listing(tmp_path) == before
    assert [name for name in before if before[name] != during[name]] == ["rendered/http/upstreams.conf"]


def upstreams(target: Path) -> str:
    return (target / "rendered" / "http" / "upstreams.conf").read_text()


def test_every_server_is_in_its_pool_alone() -> None:
    text = rendered_files(GatewaySettings(), CATALOG, SERVERS)["http/upstreams.conf"]

    pools = {pool.split(" ", 1)[0]: pool.partition("}")[0] for pool in text.split("upstream ")[1:]}
    assert set(pools) == {"user_v1", "probe_user_v1", "notes_v1", "probe_notes_v1"}
    for name, pool in pools.items():
        service = name.removeprefix("probe_").removesuffix("_v1")
        for other, servers in SERVERS.items():
            assert all((server in pool) == (other == service) for server in servers)


REFUSED: list[tuple[str, Mapping[str, ServiceEntry], Mapping[str, list[str]]]] = [
    ("notes has no server", CATALOG, {"user": ["127.0.0.1:1"]}),
    ("notes has no server", CATALOG, {**SERVERS, "notes": []}),
    ("extra", CATALOG, {**SERVERS, "extra": ["127.0.0.1:1"]}),
    ("no host:port", CATALOG, {**SERVERS, "notes": ["127.0.0.1"]}),
    ("no host:port", CATALOG, {**SERVERS, "notes": ["127.0.0.1:1; include /etc/passwd"]}),
    ("no host:port", CATALOG, {**SERVERS, "notes": ["http://127.0.0.1:1"]}),
    ("no host:port", CATALOG, {**SERVERS, "notes": ["$host:1"]}),
    ("GATEWAY_RESOLVER", CATALOG, {**SERVERS, "notes": ["notes:8000"]}),
    ("cannot be routed", {"a b": replace(NOTES, name="a b")}, {"a b": ["127.0.0.1:1"]}),
    ("cannot be routed", {"notes": replace(NOTES, prefix="")}, {"notes": ["127.0.0.1:1"]}),
    ("cannot be routed", {"notes": replace(NOTES, prefix="a/b")}, {"notes": ["127.0.0.1:1"]}),
    ("cannot be routed", {"notes": replace(NOTES, prefix=".*")}, {"notes": ["127.0.0.1:1"]}),
    ("well-known", {"notes": replace(NOTES, well_known=("/metrics",))}, {"notes": ["127.0.0.1:1"]}),
    ("well-known", {"notes": replace(NOTES, well_known=('/.well-known/"',))}, {"notes": ["127.0.0.1:1"]}),
]


@pytest.mark.parametrize(("reason", "catalog", "servers"), REFUSED)
def test_what_is_no_service_or_server_is_refused_before_anything_is_written(
    reason: str, catalog: Mapping[str, ServiceEntry], servers: Mapping[str, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(RenderError, match=reason):
        render(GatewaySettings(), catalog, servers, tmp_path / "target")

    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("reason", "name", "candidate"),
    [
        ("extra", "extra", Candidate(["127.0.0.1:1"], 5)),
        ("candidate of notes has no server", "notes", Candidate([], 5)),
        ("candidate of notes: '127.0.0.1' is no host:port", "notes", Candidate(["127.0.0.1"], 5)),
        ("GATEWAY_RESOLVER", "notes", Candidate(["notes-v2:8000"], 5)),
        ("cannot get 101", "notes", Candidate(["127.0.0.1:1"], 101)),
        ("cannot get -1", "notes", Candidate(["127.0.0.1:1"], -1)),
    ],
)
def test_what_is_no_candidate_is_refused_before_anything_is_written(
    reason: str, name: str, candidate: Candidate, tmp_path: Path
) -> None:
    with pytest.raises(RenderError, match=reason):
        render(GatewaySettings(), CATALOG, SERVERS, tmp_path / "target", candidates={name: candidate})

    assert not (tmp_path / "target").exists()


def test_rendering_again_changes_what_differs_and_leaves_nothing_else(tmp_path: Path) -> None:
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)
    first = listing(tmp_path)

    render(GatewaySettings(port=9999), CATALOG, SERVERS, tmp_path)

    second = listing(tmp_path)
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == ["rendered/listen.conf"]


def listing(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "static")
    return {str(path.relative_to(folder)): path.read_text() for path in files}


async def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """A reload may read while the renderer writes."""
    texts = set()
    for port in (1000, 2000):
        render(GatewaySettings(port=port), CATALOG, SERVERS, tmp_path)
        texts.add((tmp_path / "rendered" / "listen.conf").read_text())
    done = asyncio.Event()

    def write() -> None:
        for number in range(200):
            render(GatewaySettings(port=1000 + 1000 * (number % 2)), CATALOG, SERVERS, tmp_path)

    async def read() -> set[str]:
        seen = set()
        while not done.is_set():
            seen.add((tmp_path / "rendered" / "listen.conf").read_text())
            await asyncio.sleep(0)
        return seen

    reader = asyncio.create_task(read())
    await asyncio.to_thread(write)
    done.set()
    assert await reader <= texts


def test_the_static_files_are_linked_and_not_copied(tmp_path: Path) -> None:
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)
    render(GatewaySettings(), CATALOG, SERVERS, tmp_path)

    assert (tmp_path / "static").resolve() == STATIC_FILES
    assert (tmp_path / "nginx.conf").resolve() == STATIC_FILES / "nginx.conf"


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway_config", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_renders_from_the_environment(tmp_path: Path) -> None:
    servers = [argument for name in read_catalog() for argument in ("--server", f"{name}=127.0.0.1:1,127.0.0.1:2")]

    result = command(str(tmp_path), *servers, GATEWAY_PORT="9999", GATEWAY_RATE_AUTH="3")

    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "rendered" / "listen.conf").read_text() == "listen 127.0.0.1:9999;\n"
    assert (tmp_path / "rendered" / "limits" / "auth.conf").read_text() == "limit_req zone=auth burst=6 nodelay;\n"
    assert "127.0.0.1:2" in upstreams(tmp_path)


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    bad_setting = command(str(tmp_path / "target"), GATEWAY_RATE_AUTH="five")
    bad_server = command(str(tmp_path / "target"), "--server", "user")

    for result, word in ((bad_setting, "GATEWAY_RATE_AUTH"), (bad_server, "SERVICE=HOST:PORT")):
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert word in result.stderr
    assert not (tmp_path / "target").exists()


def test_the_command_explains_itself() -> None:
    result = command("--help")

    assert result.returncode == 0
    assert "--server" in result.stdout
