"""Third-party packages that a process imports before it forks, so that its children start fast and share the memory.

The kit and the services are not among them: each worker imports these itself, or a HUP would not reload them. Importing
the packages starts no thread, no event loop and no connection.
"""

import gc
import importlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

_PACKAGES: Final = (
    "aiohttp",
    "aiosmtplib",
    "argon2",
    "cryptography.fernet",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "email_validator",
    "fastapi",
    "gunicorn.app.wsgiapp",
    "gunicorn.glogging",
    "jinja2",
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


def keep_shared() -> None:
    """Exclude the imported objects from garbage collection, so that their memory pages stay shared after a fork."""
    gc.collect()
    gc.freeze()
