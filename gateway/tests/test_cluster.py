"""A gateway among others in a cluster: its resolver, its share of the limits, and the state of a release."""

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config.blocks import concurrent_uploads, limit, limit_zones
from gateway_config.container import follower, traffic
from gateway_config.container.follower import Follower
from gateway_config.container.installation import Installation, InstallationError
from gateway_config.container.traffic import apply_state, main
from gateway_config.settings import GatewaySettings
from gateway_config.testing.harness import CATALOG

RESOLV_CONF = "search baseplate.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.11\n"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    (tmp_path / "resolv.conf").write_text(RESOLV_CONF)
    return Installation(
        target=tmp_path / "run",
        tls=tmp_path / "tls",
        swagger_ui=tmp_path,
        catalog={name: CATALOG[name] for name in ("notes", "user")},
        environ={"GATEWAY_RESOLVER": "system", "GATEWAY_PEERS": "gateway-ready"},
        traffic=tmp_path / "traffic",
        resolv_conf=tmp_path / "resolv.conf",
    )


@pytest.fixture(autouse=True)
def changes(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, int]]:
    """Return the weights of each change, which NGINX does not load here."""
    made: list[Mapping[str, int]] = []

    def change(installation: Installation, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        installation.render(after)
        installation.write_weights(after)
        made.append(dict(after))

    installation.target.mkdir()
    monkeypatch.setattr(traffic, "_change", change)
    monkeypatch.setattr(traffic, "_wait_for_canary", lambda *_: None)
    return made


def mount(installation: Installation, serial: int, state: Mapping[str, Any]) -> None:
    """Mount a ConfigMap as the kubelet does: a new folder, to which a link is turned."""
    folder = installation.traffic / f"..{serial}"
    folder.mkdir(parents=True)
    (folder / "serial").write_text(str(serial))
    (folder / "release.json").write_text(json.dumps(state))
    link = installation.traffic / "..new"
    link.symlink_to(folder.name)
    link.rename(installation.traffic / "..data")


def rendered(installation: Installation, name: str) -> str:
    return (installation.target / "rendered" / name).read_text()


# The resolver


def test_the_resolver_of_all_pods_is_used_with_full_names(installation: Installation) -> None:
    installation.render({"notes": 5})

    upstreams = rendered(installation, "http/upstreams.conf")
    assert "resolver 10.96.0.10 valid=1s" in upstreams
    assert re.findall(r"server (notes\S+)", upstreams)[::2] == [
        f"{name}.baseplate.svc.cluster.local:8000" for name in ("notes", "notes-v2")
    ]


def test_a_machine_without_a_resolver_is_refused(installation: Installation) -> None:
    installation.resolv_conf.write_text("search example\n")

    with pytest.raises(InstallationError, match="names no server"):
        installation.settings()


# Limits


@pytest.mark.parametrize("gateways", [2, 3, 7])
def test_the_shares_of_all_gateways_are_the_limit(gateways: int) -> None:
    settings = GatewaySettings(gateways=gateways)

    for zone, rate in {"general": 100, "auth": 5, "upload": 5}.items():
        share = re.search(rf"zone={zone}:10m rate=([0-9]+)r/m", limit_zones(settings))
        burst = re.search(r"burst=([0-9]+)", limit(settings, zone, rate))
        assert share
        assert burst
        assert rate - 1 <= int(share[1]) * gateways / 60 <= rate
        assert int(burst[1]) * gateways <= 2 * rate
    connections = re.search(r"limit_conn connections ([0-9]+)", limit_zones(settings))
    assert connections
    assert 256 - gateways < int(connections[1]) * gateways <= 256
    assert connections[0] in concurrent_uploads(settings)


def test_a_gateway_counts_the_others_and_keeps_the_number_while_dns_is_unavailable(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, changes: list[Mapping[str, int]]
) -> None:
    addresses = ["10.0.0.1"]

    def look_up(name: str, *_: Any, **__: Any) -> list[Any]:
        if not addresses:
            raise OSError
        assert name == "gateway-ready"
        return [(None, None, None, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    following = Follower(installation)
    for more, gateways, reloads in ([], 1, 0), (["10.0.0.2", "10.0.0.3"], 3, 1), ([], 3, 1):
        addresses += more
        following.follow()
        assert (installation.settings().gateways, len(changes)) == (gateways, reloads)

    addresses.clear()
    following.follow()
    assert (installation.settings().gateways, len(changes)) == (3, 1)


def test_a_renewed_certificate_is_loaded(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, changes: list[Mapping[str, int]]
) -> None:
    monkeypatch.setattr(follower, "_say", lambda _: None)
    installation = replace(installation, environ={"GATEWAY_RESOLVER": "system"})
    installation.tls.mkdir()
    for name in ("certificate.pem", "key.pem"):
        (installation.tls / name).write_text("old")
    following = Follower(installation)
    following.follow()
    assert changes == []

    (installation.tls / "key.pem").write_text("new")
    following.follow()
    following.follow()
    assert len(changes) == 1


# The state of a release


def test_a_late_state_does_not_undo_a_newer_one(
    installation: Installation, changes: list[Mapping[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["apply", "7", '{"notes": {"weight": 50}}'], installation) == 0
    assert main(["apply", "6", '{"notes": {"weight": 25}}'], installation) == 0
    assert main(["apply", "7", "{}"], installation) == 0

    assert capsys.readouterr().out.splitlines() == ['{"notes": {"weight": 50}}'] * 3
    # The pool of the canary comes first, without traffic.
    assert changes == [{"notes": 0}, {"notes": 50}]


def test_a_mounted_state_is_followed_unless_it_is_late(
    installation: Installation, changes: list[Mapping[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_say", lambda _: None)
    following = Follower(replace(installation, environ={"GATEWAY_RESOLVER": "system"}))
    following.follow()
    mount(installation, 3, {"notes": {"weight": 0}})
    following.follow()
    apply_state(installation, 5, {"notes": 100})
    mount(installation, 4, {"notes": {"weight": 50}})
    following.follow()
    assert changes == [{"notes": 0}, {"notes": 100}]

    mount(installation, 6, {})
    following.follow()
    assert installation.read_weights() == {}


def test_a_new_gateway_starts_with_the_mounted_state(installation: Installation) -> None:
    mount(installation, 3, {"notes": {"weight": 25}})

    installation.adopt_mounted_state()

    assert installation.read_weights() == {"notes": 25}
    # A container that starts again in the same pod keeps what was applied since.
    apply_state(installation, 4, {})
    installation.adopt_mounted_state()
    assert installation.read_weights() == {}


@pytest.mark.parametrize("words", [["apply", "7"], ["apply", "0", "{}"], ["apply", "-1", "{}"]])
def test_a_wrong_serial_number_is_refused(installation: Installation, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(words, installation)


@pytest.mark.parametrize("state", ["[]", '{"nowhere": {"weight": 5}}', '{"notes": {"weight": 101}}'])
def test_a_wrong_state_changes_nothing(
    installation: Installation, state: str, changes: list[Mapping[str, int]]
) -> None:
    assert main(["apply", "7", state], installation) == 1
    assert changes == []
    assert main(["apply", "7", '{"notes": {"weight": 5}}'], installation) == 0
