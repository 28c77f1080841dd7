"""How gunicorn runs a service, the same for `make run` and in a container.

    gunicorn --config deploy/gunicorn.conf.py --bind 127.0.0.1:8002 "user_service.app:create_app()"

`WEB_CONCURRENCY` sets the number of workers. HUP loads the service's code anew, TTIN and TTOU add and remove a worker,
TERM stops; none of them loses a request (servicekit.server.worker).
"""

import contextlib
import gc
import importlib
import os
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from servicekit.server.worker import die_with_master

worker_class = "servicekit.server.worker.GracefulWorker"
logger_class = "servicekit.server.worker.KitLogger"
workers = int(os.environ.get("WEB_CONCURRENCY") or 1)

# Clients give up an idle connection after 30 s, before the server does: the server must never be the first.
keepalive = 75
# A worker has this long for a whole stop, then it is killed. It beats its heart only until the application shuts down,
# so the time after which a silent worker is killed (`timeout`) is longer.
graceful_timeout = 20
timeout = 30

# The heart beats by touching a file, which on a slow disk blocks the loop.
if os.access("/dev/shm", os.W_OK):
    worker_tmp_dir = "/dev/shm"

# Forwarded headers are believed by nobody here; the kit reads X-Real-IP from the gateway's networks only.
forwarded_allow_ips = ""
# It would start a thread in the master, which must not have any when it forks.
control_socket_disable = True

# Imported once by the master, so that workers are forked warm and share the memory. Third-party code only: what
# belongs to the service is imported by each worker, or a HUP would not load its new code. Importing these starts no
# thread, no event loop and no connection. A service that lacks one of them does without.
_SHARED_IMPORTS = (
    "aiohttp",
    "argon2",
    "cryptography.fernet",
    "email_validator",
    "fastapi",
    "httpx2",
    "jwt",
    "loguru",
    "orjson",
    "psutil",
    "pydantic_settings",
    "redis.asyncio",
    "tenacity",
    "uuid_utils.compat",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
# A service owns one store; the other's driver would only cost time and memory.
_DRIVERS = {
    "DATABASE_URL": ("asyncpg", "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.ext.asyncio"),
    "MONGO_URL": ("pymongo",),
}
_driver = [name for store, names in _DRIVERS.items() if {store, f"{store}_FILE"} & os.environ.keys() for name in names]
# Imports make objects that stay. Looking for garbage among them meanwhile takes a seventh of the time.
gc.disable()
for _name in (*_SHARED_IMPORTS, *_driver):
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(_name)
gc.enable()


def on_starting(_server):
    """Begin with empty metrics: a predecessor's values belong to processes that are gone."""
    if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        Path(directory).mkdir(parents=True, exist_ok=True)
        for values in Path(directory).glob("*.db"):
            values.unlink()


def when_ready(_server):
    """Keep the collector away from what the imports left behind, so that its pages stay shared after the fork."""
    gc.collect()
    gc.freeze()


def post_fork(server, _worker):
    """Tie a new worker's life to its master's; leave the collector off while it imports the service."""
    die_with_master(server.pid)
    gc.disable()


def post_worker_init(_worker):
    """Collect garbage again, once the service is imported."""
    gc.enable()


def child_exit(_server, worker):
    """Take a gone worker out of the gauges that count living ones."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(worker.pid)
