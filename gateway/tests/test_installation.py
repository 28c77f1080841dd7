"""The installation of a container: what it renders, which settings it refuses, and that it needs no package."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway_config import SettingError
from gateway_config.container.installation import Installation, InstallationError
from opskit.catalog import DEFAULT_PATH

REPOSITORY = DEFAULT_PATH.parents[1]

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.append(sys.argv[1])
import gateway_config
for module in pkgutil.walk_packages(gateway_config.__path__, "gateway_config."):
    if ".testing" not in module.name:
        importlib.import_module(module.name)
        print(module.name)
"""


def test_the_image_needs_only_the_standard_library_and_opskit(tmp_path: Path) -> None:
    (tmp_path / "gateway_config").symlink_to(REPOSITORY / "gateway" / "gateway_config")
    (tmp_path / "opskit").symlink_to(REPOSITORY / "shared" / "opskit")

    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", IMPORT_ALL, str(tmp_path)], capture_output=True, text=True, check=True
    )

    imported = result.stdout.split()
    assert {"gateway_config.render", "gateway_config.container.nginx", "gateway_config.container.traffic"} <= set(
        imported
    )


def test_the_dockerfile_names_modules_that_exist() -> None:
    names = set(re.findall(r"gateway_config[.\w]+", (REPOSITORY / "gateway" / "Dockerfile").read_text()))

    assert {"gateway_config.container.nginx", "gateway_config.container.traffic"} <= names
    assert [name for name in sorted(names) if find_spec(name) is None] == []


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation from which nothing has been rendered."""
    return Installation(
        target=tmp_path / "run", tls=tmp_path / "tls", swagger_ui=tmp_path, environ={"GATEWAY_RESOLVER": "127.0.0.11"}
    )


@pytest.mark.needs("notes", "assets")
def test_servers_are_found_by_name(installation: Installation) -> None:
    installation.render({"notes": 5})

    text = (installation.target / "rendered" / "http" / "upstreams.conf").read_text()
    for name in installation.catalog:
        assert f"server {name}:8000 max_fails=1 fail_timeout=1s resolve;" in text
        assert (f"server {name}-v2:8000 " in text) == (name == "notes")


def test_weights_are_kept(installation: Installation) -> None:
    installation.target.mkdir()
    assert installation.read_weights() == {}

    installation.write_weights({"notes": 25, "assets": 0})

    assert json.loads(installation.release_file.read_text()) == {"notes": {"weight": 25}, "assets": {"weight": 0}}
    assert installation.read_weights() == {"notes": 25, "assets": 0}


def test_a_mounted_certificate_switches_tls_on(installation: Installation) -> None:
    assert installation.settings().tls_certificate == ""
    installation.tls.mkdir()
    assert installation.settings().tls_certificate == ""

    for name in ("certificate.pem", "key.pem"):
        (installation.tls / name).write_text("PEM")
    settings = installation.settings()

    assert settings.tls_certificate == str(installation.tls / "certificate.pem")
    assert settings.tls_certificate_key == str(installation.tls / "key.pem")


@pytest.mark.parametrize(("there", "missing"), [("certificate.pem", "key.pem"), ("key.pem", "certificate.pem")])
def test_a_certificate_without_key_or_a_key_without_certificate_is_an_error(
    installation: Installation, there: str, missing: str
) -> None:
    installation.tls.mkdir()
    (installation.tls / there).write_text("PEM")

    with pytest.raises(InstallationError, match=f"holds {there} and no {missing}"):
        installation.settings()


def test_an_unreadable_certificate_is_an_error_and_does_not_mean_plain_http(installation: Installation) -> None:
    installation.tls.mkdir()
    for name in ("certificate.pem", "key.pem"):
        # Even root, who may run the tests, cannot read a folder as a file.
        (installation.tls / name).mkdir()

    with pytest.raises(InstallationError, match="cannot be read"):
        installation.settings()


def test_an_invalid_setting_is_named(installation: Installation) -> None:
    with pytest.raises(SettingError, match="GATEWAY_PORT"):
        replace(installation, environ={"GATEWAY_PORT": "none"}).settings()
