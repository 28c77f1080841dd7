"""The settings of the gateway that the launcher decides or checks."""

import os

import pytest

from local_platform.errors import InvalidOption
from local_platform.platform.gateway import Gateway
from opskit.catalog import read_catalog

CATALOG = read_catalog()
PORTS = {service: {f"{service}-1": 9000 + number} for number, service in enumerate(CATALOG)}


def test_a_frontend_is_found_from_the_folder_of_the_caller(layout, tmp_path, monkeypatch):
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATIC_DIR", "dist")

    Gateway(layout, 8080, 9113, CATALOG, PORTS, {}).process_spec()

    assert f'root "{tmp_path}/dist";' in (layout.gateway / "rendered" / "frontend.conf").read_text()


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_a_start_page_is_refused(layout, tmp_path, monkeypatch, folder):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("STATIC_DIR", os.fspath(tmp_path / folder))

    with pytest.raises(InvalidOption, match=r"STATIC_DIR .*no index\.html"):
        Gateway(layout, 8080, 9113, CATALOG, PORTS, {})
