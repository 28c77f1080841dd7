"""docs/errors.md lists the types of all errors, those of the gateway too."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from servicekit.core.errors import BLANK, TYPE_PREFIX

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "errors.py"))


def test_the_page_is_current(generator: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == generator["page"](), "run .venv/bin/python docs/errors.py"


def test_every_type_of_an_error_is_a_documented_code(generator: dict[str, Any]) -> None:
    for error in generator["error_classes"]():
        assert re.fullmatch(re.escape(TYPE_PREFIX) + r"[a-z]+(?:-[a-z]+)*", error.type), error


def test_the_gateway_uses_the_types_of_the_services(generator: dict[str, Any]) -> None:
    declared = {error.type: error.status for error in generator["error_classes"]()}
    table = re.search(
        r"map \$status \$problem_type \{(.*?)\n\}", (ROOT / "gateway/nginx/http/problems.conf").read_text(), re.DOTALL
    )
    assert table is not None
    rows = dict(re.findall(r"^\s+(\w+)\s+\"(.*)\";", table[1], re.MULTILINE))

    assert rows.pop("default") == BLANK
    assert rows.pop("401") == f"{TYPE_PREFIX}$token_problem"
    assert rows.pop("400") == f"{TYPE_PREFIX}$bad_request"
    assert rows.pop("502") == rows["503"]
    assert {type_: int(status) for status, type_ in rows.items()}.items() <= declared.items()
