"""What a process imports before it forks, so that its children start fast and share the memory.

A fork server imports third-party packages. A gunicorn master imports the service as well; after a HUP, its new workers
forget that code and import it anew. None of these imports starts a thread, an event loop or a connection.
"""

import gc
import importlib
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

_PACKAGES: Final = (
    "aiohttp",
    "argon2",
    "cryptography.fernet",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "email_validator",
    "fastapi",
    "gunicorn.app.wsgiapp",
    "gunicorn.glogging",
    "jwt",
    "loguru",
    "orjson",
    "psutil",
    # FastAPI imports its models when the first route is made.
    "pydantic.v1",
    "pydantic_settings",
    "redis.asyncio",
    "regex",
    "tenacity",
    "uuid_utils.compat",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn_worker",
    "uvloop",
)
# The driver of each store, by the setting that names the store.
DRIVERS: Final = {
    "DATABASE_URL": ("asyncpg", "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.ext.asyncio"),
    "MONGO_URL": ("pymongo",),
}


def import_packages(settings: Iterable[str]) -> None:
    """Import what is installed of the packages, and the drivers of the stores that these settings name."""
    # Imports create objects that stay; collecting garbage meanwhile would take a seventh of the time.
    gc.disable()
    drivers = [name for setting in settings for name in DRIVERS.get(setting, ())]
    for name in (*_PACKAGES, *drivers):
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    gc.enable()


_own_modules: set[str] = set()


def import_service(module: str) -> None:
    """Import a service's module in the master. A worker reports what is wrong with it."""
    before = set(sys.modules)
    gc.disable()
    with suppress(Exception):
        importlib.import_module(module)
    gc.enable()
    own = {"opskit", "servicekit", module.partition(".")[0]}
    _own_modules.update(name for name in sys.modules.keys() - before if name.partition(".")[0] in own)


def forget_service() -> None:
    """Undo `import_service` in a worker, which then imports the code as it is now."""
    # The fork server must not import it: at its import it decides whether processes share their values.
    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.registry import REGISTRY

    for name in _own_modules & sys.modules.keys():
        module = sys.modules.pop(name)
        package, _, attribute = name.rpartition(".")
        if package in sys.modules:
            vars(sys.modules[package]).pop(attribute, None)
        for value in vars(module).values():
            if isinstance(value, MetricWrapperBase):
                # Another module of the service may have imported the metric.
                with suppress(KeyError):
                    REGISTRY.unregister(value)


def keep_shared() -> None:
    """Exclude the imported objects from garbage collection, so that their memory pages stay shared after a fork."""
    gc.collect()
    gc.freeze()
