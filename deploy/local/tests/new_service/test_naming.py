"""Rules for the name of a new service."""

import re
from pathlib import Path

import pytest

from local_platform.new_service.naming import NameRefused, check_name
from opskit.catalog import ServiceEntry

CATALOG = {"user": ServiceEntry("user", "users", 8002, "postgres")}


@pytest.mark.parametrize("name", ["billing", "ledger2", "ab", "a" * 30])
def test_an_ordinary_name_is_accepted(tmp_path: Path, name: str) -> None:
    check_name(name, CATALOG, tmp_path)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "cannot be"),
        ("Billing", "cannot be"),
        ("2billing", "cannot be"),
        ("my-billing", "such as mybilling"),
        ("my_billing", "such as mybilling"),
        ("MyBilling", "such as mybilling"),
        ("-", "a letter first"),
        ("../billing", "cannot be"),
        ("billing\n", "cannot be"),
        ("größe", "cannot be"),
        ("a" * 31, "cannot be"),
        ("class", "means something"),
        ("match", "means something"),
        ("json", "means something"),
        ("admin", "platform itself"),
        ("postgres", "platform itself"),
        ("gateway", "platform itself"),
        ("keys", "platform itself"),
        ("job", "platform itself"),
        ("user", "is taken"),
        ("users", "is taken"),
    ],
)
def test_any_other_name_is_refused_with_the_reason(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(NameRefused, match=re.escape(why)):
        check_name(name, CATALOG, tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "billing").touch()
    with pytest.raises(NameRefused, match="exists already"):
        check_name("billing", CATALOG, tmp_path)
