"""The description of the whole API, from which clients are generated: `/openapi.json` of the gateway."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from opskit.catalog import read_catalog
from servicekit.core.errors import TYPE_PREFIX
from servicekit.core.problems import PROBLEM_JSON

CLIENTS = Path(__file__).parents[1] / "clients"


@pytest.fixture
async def description(gateway: httpx2.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await gateway.get("/openapi.json")).json()
    return document


def _operations(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]


@pytest.mark.needs("analytics", "notes")
async def test_operations_have_the_names_of_functions(description: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in _operations(description)]

    assert {"users_log_in", "users_read_jwks", "notes_create_note", "analytics_read_series"} <= set(names)
    assert len(names) == len(set(names))
    prefixes = {entry.prefix.replace("-", "_") for entry in read_catalog().values()}
    for name in names:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name)
        assert name.split("_")[0] in prefixes


async def test_every_reference_leads_to_a_schema_and_every_schema_is_used(description: dict[str, Any]) -> None:
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(description)))

    assert references == set(description["components"]["schemas"])
    assert [name for name in references if name.endswith("Problem")] == ["Problem"]


async def test_no_two_schemas_have_the_same_title(description: dict[str, Any]) -> None:
    titles = Counter(schema.get("title", name) for name, schema in description["components"]["schemas"].items())

    assert titles.most_common(1)[0][1] == 1


@pytest.mark.needs("notes")
async def test_a_change_of_a_note_requires_its_entity_tag(description: dict[str, Any]) -> None:
    note = description["paths"]["/api/v1/notes/{note_id}"]
    required = {
        method: [parameter["required"] for parameter in note[method]["parameters"] if parameter["name"] == "If-Match"]
        for method in note
    }

    assert required == {"get": [], "put": [True], "patch": [True], "delete": [True]}


async def test_services_are_listed_in_their_order_with_an_introduction(description: dict[str, Any]) -> None:
    assert [tag["name"] for tag in description["tags"]] == list(read_catalog())
    assert "Idempotency-Key" in description["info"]["description"]


async def test_the_description_in_the_repository_is_that_of_the_code(description: dict[str, Any]) -> None:
    stored = json.loads((CLIENTS / "openapi.json").read_text())

    assert description == stored, "the API has changed: run `make clients`"


async def test_every_code_of_an_error_has_one_example(description: dict[str, Any]) -> None:
    examples = description["components"]["examples"]

    for _, _, operation in _operations(description):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get(PROBLEM_JSON)
            if content is not None and status != "default":
                statuses = {examples[name]["value"]["status"] for name in content["examples"]}
                assert statuses == {int(status)}, operation["operationId"]
    assert [example["value"]["type"] for example in examples.values()] == [TYPE_PREFIX + code for code in examples]
