"""Which errors the documentation tells of an operation."""

from typing import Any

import pytest

from servicekit.web.openapi import implied_errors


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        ({}, {429, 503}),
        ({"security": [{}]}, {401, 429, 503}),
        ({"parameters": [{"in": "query", "name": "limit"}]}, {422, 429, 503}),
        ({"parameters": [{"in": "header", "name": "Idempotency-Key"}]}, {409, 422, 429, 503}),
        ({"parameters": [{"in": "header", "name": "If-Match"}]}, {400, 412, 428, 429, 503}),
        ({"parameters": [{"in": "header", "name": "If-None-Match"}]}, {400, 429, 503}),
        ({"requestBody": {}}, {400, 413, 415, 422, 429, 503}),
    ],
)
def test_the_parts_of_an_operation_imply_its_errors(operation: dict[str, Any], statuses: set[int]) -> None:
    assert implied_errors("/api/v1/parcels", operation) == statuses
