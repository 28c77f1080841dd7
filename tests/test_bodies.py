"""Every body of every service is bounded: no unknown field, no list and no route is forgotten."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, params
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from opskit.catalog import read_catalog
from servicekit.outbox.http import events_router
from servicekit.web.body_limit import DEFAULT_MAX_BYTES, BodyRoute
from servicekit.web.json_body import RequestBody

# The largest JSON body of each service; the others have the default (gateway/nginx/http/problems.conf).
LARGEST = {"user": 16 * 1024, "analytics": 2 * 1024 * 1024, "notes": 7 * 1024 * 1024}


def _routes() -> Iterator[tuple[str, APIRoute]]:
    for service in read_catalog().values():
        package = importlib.import_module(service.package)
        for module in pkgutil.walk_packages(package.__path__, f"{service.package}."):
            if module.name.endswith(".routes"):
                for value in vars(importlib.import_module(module.name)).values():
                    if isinstance(value, APIRouter):
                        yield from ((service.name, route) for route in value.routes if isinstance(route, APIRoute))
    for route in events_router({}, callers=("user",)).routes:
        assert isinstance(route, APIRoute)
        yield "the kit", route


BODIES = {
    f"{' '.join(route.methods)} {route.path} of {service}": (service, route)
    for service, route in _routes()
    if route.body_field is not None
}


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value
        for inner in value.values():
            yield from _schemas(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _schemas(inner)


@pytest.mark.parametrize("name", BODIES)
def test_the_work_on_a_body_is_bounded(name: str) -> None:
    service, route = BODIES[name]
    field = route.body_field
    assert isinstance(route, BodyRoute)
    assert route.max_bytes <= LARGEST.get(service, DEFAULT_MAX_BYTES)
    assert field is not None
    schemas = list(_schemas(TypeAdapter(field.field_info.annotation).core_schema))
    for schema in schemas:
        if schema["type"] == "list":
            assert schema.get("fail_fast"), schema
        if schema["type"] == "model" and not isinstance(field.field_info, params.Form):
            assert issubclass(schema["cls"], RequestBody), schema["cls"]


def test_every_service_has_a_body() -> None:
    assert {service for service, _ in BODIES.values()} == {*read_catalog(), "the kit"}
