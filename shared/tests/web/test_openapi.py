"""Which errors the documentation tells of an operation."""

from typing import Any

import pytest

from servicekit.core.errors import Conflict, NotFound
from servicekit.idempotency import request
from servicekit.web.openapi import declaring_errors, implied_errors, problems

TOKEN = ["token-missing", "token-invalid", "token-expired", "session-ended"]
ALWAYS = ["rate-limited", "service-unavailable"]


@pytest.mark.parametrize(
    ("operation", "codes"),
    [
        ({}, []),
        ({"security": [{}]}, [*TOKEN, "insufficient-scope"]),
        ({"parameters": [{"in": "query", "name": "limit"}]}, ["validation"]),
        ({"parameters": [{"in": "path", "name": "id"}]}, ["validation", "not-found"]),
        ({"parameters": [{"in": "header", "name": "Idempotency-Key"}]}, ["key-in-flight", "key-reused"]),
        (
            {"parameters": [{"in": "header", "name": "If-Match"}]},
            ["malformed-condition", "stale-version", "version-required"],
        ),
        ({"parameters": [{"in": "header", "name": "If-None-Match"}]}, ["malformed-condition"]),
        (
            {"requestBody": {"content": {"application/json": {}}}},
            ["invalid-json", "too-large", "unsupported-media-type", "validation"],
        ),
        (
            {"requestBody": {"content": {"multipart/form-data": {}}}},
            ["malformed-request", "too-large", "unsupported-media-type", "validation"],
        ),
    ],
)
def test_the_parts_of_an_operation_imply_its_errors(operation: dict[str, Any], codes: list[str]) -> None:
    assert implied_errors("/api/v1/parcels", operation) == codes + ALWAYS


def test_each_error_of_an_operation_has_an_example_by_its_code() -> None:
    responses = {str(status): response for status, response in problems(Conflict, NotFound).items()}
    operation = {"parameters": [{"in": "header", "name": "Idempotency-Key"}], "responses": responses}

    document = declaring_errors(lambda: {"paths": {"/api/v1/parcels": {"post": operation}}})()

    described = document["paths"]["/api/v1/parcels"]["post"]["responses"]
    examples = {
        status: list(described[status]["content"]["application/problem+json"]["examples"]) for status in described
    }
    assert examples == {
        "404": ["not-found"],
        "409": ["conflict", "key-in-flight"],
        "422": ["key-reused"],
        "429": ["rate-limited"],
        "503": ["service-unavailable"],
    }
    example = document["components"]["examples"]["key-in-flight"]["value"]
    assert (example["type"], example["detail"]) == (request.KeyInUse.type, request.KeyInUse.detail)
    assert "field" not in example


def test_a_status_stands_for_the_general_error_of_it() -> None:
    assert problems(409) == problems(Conflict)
