"""The service list: a mistake in it is named."""

from pathlib import Path

import pytest

from opskit.catalog import CatalogError, read_catalog

ENTRY = '[{name}]\nprefix = "{name}s"\ndevelopment_port = 8009\nstore = "mongo"\n'


def test_the_repositorys_own_list_is_valid_and_its_ports_differ() -> None:
    catalog = read_catalog(operators=True)

    assert catalog["user"].application == "user_service.app:create_app()"
    assert len({entry.development_port for entry in catalog.values()}) == len(catalog)
    assert len({entry.prefix for entry in catalog.values()}) == len(catalog)


def test_a_service_for_operators_has_no_part_in_the_api() -> None:
    everything = read_catalog(operators=True)

    assert everything.keys() - read_catalog().keys() == {"console"}
    assert everything["console"].scopes == ()
    assert set(everything["console"].calls) == read_catalog().keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[parcel", "Expected"),
        ("[parcel]\n", "lacks store"),
        ('[parcel]\nstore = "sqlite"\n', "must be postgres or mongo"),
        (ENTRY.format(name="parcel") + 'calls = ["ghost"]\n', "calls ghost"),
        (ENTRY.format(name="parcel") + 'calls = ["parcel"]\n', "calls parcel"),
        (
            ENTRY.format(name="parcel") + 'calls = ["desk"]\n[desk]\ndevelopment_port = 1\noperators = true\n',
            "calls desk",
        ),
        (ENTRY.format(name="desk") + "operators = true\n", "cannot have prefix, store"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_entry(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "services.toml"
    path.write_text(text)

    with pytest.raises(CatalogError, match=message) as error:
        read_catalog(path)
    assert str(path) in str(error.value)
