"""Writes docs/errors.md from the classes of errors: `.venv/bin/python docs/errors.py`."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from opskit.catalog import read_catalog
from servicekit.core.errors import TYPE_PREFIX, ServiceError

PAGE = Path(__file__).with_suffix(".md")

_HEAD = """# Errors

Every error is `application/problem+json` (RFC 9457) with the members `type`, `title`, `status`, `detail`, `instance`
and `request_id`. A client decides by `type`; `detail` is for people and may change. Below, a code stands for the type
`urn:baseplate:problem:<code>`. The gateway and the services use the same code for the same condition.

`about:blank` is the type where the status says it all: 404 for a path without a route, 405, and what a server refuses
before it reads a request (414, 421, 431, 501, 505). `service-unavailable` is 502 where another service gave no usable
response.

`errors` lists at most 20 faults. `field` begins with `body`, `query`, `path` or `header`, and goes on with the names
and positions in the request: `body.events.3.type`. Values are never repeated.

This page is written by `.venv/bin/python docs/errors.py` from the classes.

| code | status | meaning | further members |
| --- | --- | --- | --- |
"""


def error_classes() -> list[type[ServiceError]]:
    """Return the class that declares each type, of the kit and all services, by status and type."""
    found: set[type[ServiceError]] = set()
    for package in ("servicekit", *(service.package for service in read_catalog().values())):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if ".testing" not in module.name and not module.name.endswith("__main__"):
                found |= set(_errors_in(importlib.import_module(module.name)))
    # A type that several classes declare is described by the most general one.
    found_by_depth = sorted(found, key=lambda error: (len(error.__mro__), error.__module__), reverse=True)
    by_type = {error.type: error for error in found_by_depth}
    return sorted(by_type.values(), key=lambda error: (error.status, error.type))


def page() -> str:
    """Return the text of the page."""
    return _HEAD + "".join(_row(error) for error in error_classes())


def _row(error: type[ServiceError]) -> str:
    meaning = " ".join(inspect.cleandoc(error.__doc__ or error.detail).split())
    members = "; ".join(f"`{name}`: {what}" for name, what in error.extensions.items())
    return f"| `{error.type.removeprefix(TYPE_PREFIX)}` | {error.status} | {meaning} | {members} |\n"


def _errors_in(module: ModuleType) -> Iterator[type[ServiceError]]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, ServiceError) and "type" in vars(value):
            yield value


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
