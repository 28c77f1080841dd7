"""The contract gate finds changes that break clients, lets additions pass, and knows what the changelog declares."""

import copy
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).parents[1] / "clients"
CONTRACT = runpy.run_path(str(CLIENTS / "contract.py"))
needs_oasdiff = pytest.mark.skipif(not CONTRACT["OASDIFF"].exists(), reason="it needs oasdiff: make contract builds it")

NOTE = {
    "type": "object",
    "required": ["title"],
    "additionalProperties": False,
    "properties": {
        "title": {"type": "string", "maxLength": 200},
        "body": {"type": "string"},
        "color": {"type": "string", "enum": ["red", "blue"]},
    },
}
STORED = {
    "type": "object",
    "required": ["id", "title"],
    "properties": {"id": {"type": "string"}, "title": {"type": "string"}, "size": {"type": "integer"}},
}
# A description with the shapes that those of the services have.
API: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Example", "version": "1"},
    "paths": {
        "/api/v1/notes": {
            "post": {
                "operationId": "notes_create_note",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Note"}}},
                },
                "responses": {
                    "201": {
                        "description": "Created",
                        "headers": {"ETag": {"schema": {"type": "string"}}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Stored"}}},
                    }
                },
            },
            "get": {
                "operationId": "notes_list_notes",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100}},
                    {"name": "tag", "in": "query", "schema": {"type": "string"}},
                ],
                "responses": {"200": {"description": "OK"}},
            },
        }
    },
    "components": {"schemas": {"Note": NOTE, "Stored": STORED}},
}

Change = Callable[[dict[str, Any]], Any]


def _note(api: dict[str, Any]) -> Any:
    return api["components"]["schemas"]["Note"]


def _stored(api: dict[str, Any]) -> Any:
    return api["components"]["schemas"]["Stored"]


def _path(api: dict[str, Any]) -> Any:
    return api["paths"]["/api/v1/notes"]


BREAKING: dict[str, Change] = {
    "an operation is removed": lambda api: _path(api).pop("get"),
    "a path is removed": lambda api: api["paths"].update({"/api/v1/pages": api["paths"].pop("/api/v1/notes")}),
    "an operation gets another id": lambda api: _path(api)["post"].update(operationId="notes_write_note"),
    "a request needs one more property": lambda api: _note(api)["required"].append("body"),
    "a property of a request is removed": lambda api: _note(api)["properties"].pop("body"),
    "a property of a request gets another type": lambda api: _note(api)["properties"]["body"].update(type="integer"),
    "a value of a request's enumeration is removed": lambda api: _note(api)["properties"]["color"]["enum"].pop(),
    "a text may be shorter only": lambda api: _note(api)["properties"]["title"].update(maxLength=100),
    "a required property of a response is removed": lambda api: (
        _stored(api)["properties"].pop("title"),
        _stored(api)["required"].remove("title"),
    ),
    "a property of a response gets another type": lambda api: _stored(api)["properties"]["id"].update(type="integer"),
    "a property of a response becomes optional": lambda api: _stored(api)["required"].remove("title"),
    "a parameter is removed": lambda api: _path(api)["get"]["parameters"].pop(),
    "a parameter becomes required": lambda api: _path(api)["get"]["parameters"][1].update(required=True),
    "a status of success is removed": lambda api: _path(api)["post"]["responses"].update(
        {"200": _path(api)["post"]["responses"].pop("201")}
    ),
    "a media type is removed": lambda api: _path(api)["post"]["requestBody"]["content"].update(
        {"text/plain": _path(api)["post"]["requestBody"]["content"].pop("application/json")}
    ),
}
ADDITIVE: dict[str, Change] = {
    "an operation is added": lambda api: _path(api).update(
        delete={"operationId": "notes_delete_notes", "responses": {"204": {"description": "Gone"}}}
    ),
    "a path is added": lambda api: api["paths"].update({"/api/v1/pages": {}}),
    "an optional property of a request is added": lambda api: _note(api)["properties"].update(more={"type": "string"}),
    "a request needs one property less": lambda api: _note(api)["required"].remove("title"),
    "a value of a request's enumeration is added": lambda api: _note(api)["properties"]["color"]["enum"].append(
        "green"
    ),
    "a text may be longer": lambda api: _note(api)["properties"]["title"].update(maxLength=300),
    "a property of a response is added": lambda api: _stored(api)["properties"].update(more={"type": "string"}),
    "a property of a response becomes required": lambda api: _stored(api)["required"].append("size"),
    "an optional parameter is added": lambda api: _path(api)["get"]["parameters"].append(
        {"name": "q", "in": "query", "schema": {"type": "string"}}
    ),
    "a limit is raised": lambda api: _path(api)["get"]["parameters"][0]["schema"].update(maximum=200),
    "an error is added": lambda api: _path(api)["get"]["responses"].update({"429": {"description": "Too many"}}),
    "a header of a response is added": lambda api: _path(api)["post"]["responses"]["201"]["headers"].update(
        Location={"schema": {"type": "string"}}
    ),
    "a media type is added": lambda api: _path(api)["post"]["requestBody"]["content"].update({"text/plain": {}}),
    "words change": lambda api: _path(api)["get"].update(summary="Lists notes", description="All of them."),
}


def _changes(change: Change) -> list[dict[str, Any]]:
    changed = copy.deepcopy(API)
    change(changed)
    found: list[dict[str, Any]] = CONTRACT["breaking_changes"](json.dumps(API), json.dumps(changed))
    return found


@needs_oasdiff
@pytest.mark.parametrize("change", BREAKING.values(), ids=BREAKING)
def test_a_change_that_breaks_clients_is_found(change: Change) -> None:
    changes = _changes(change)

    assert changes
    assert {CONTRACT["operation_of"](found) for found in changes} <= {"notes_create_note", "notes_list_notes"}


@needs_oasdiff
@pytest.mark.parametrize("change", ADDITIVE.values(), ids=ADDITIVE)
def test_an_addition_passes(change: Change) -> None:
    assert _changes(change) == []


@needs_oasdiff
def test_the_real_description_is_compared_as_a_whole() -> None:
    text = (CLIENTS / "openapi.json").read_text()
    description = json.loads(text)
    prefix, operations = next(iter(description["paths"].items()))
    method, operation = operations.popitem()

    assert CONTRACT["breaking_changes"](text, text) == []
    (change,) = CONTRACT["breaking_changes"](text, json.dumps(description))
    assert (change["operation"], change["path"]) == (method.upper(), prefix)
    assert CONTRACT["operation_of"](change) == operation["operationId"]


def test_the_changelog_declares_operations_below_unreleased_alone() -> None:
    changelog = """# Changelog

## [Unreleased]

- **Breaking:** `notes_create_note` and `notes_list_notes` need a tag.
- `notes_read_note` is faster.

## [1.0.0]

- **Breaking:** `users_log_in` takes a name.
"""
    assert CONTRACT["declared_operations"](changelog) == {"notes_create_note", "notes_list_notes"}
