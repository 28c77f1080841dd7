"""How gunicorn runs a service, the same for `make run` and in a container.

    gunicorn --config deploy/gunicorn.conf.py --bind 127.0.0.1:8002 "user_service.app:create_app()"

`WEB_CONCURRENCY` sets the number of workers. HUP reloads the service's code, TTIN and TTOU add and remove a worker,
TERM stops; none of them loses a request (servicekit.server.worker).
"""

import contextlib
import gc
import os
from pathlib import Path

from servicekit.observability import metric_files
from servicekit.server import shared_imports
from servicekit.server.accepting import counts
from servicekit.server.worker import die_with_master

# Before the first metric is made.
metric_files.install()

worker_class = "servicekit.server.worker.GracefulWorker"
logger_class = "servicekit.server.worker.KitLogger"
workers = int(os.environ.get("WEB_CONCURRENCY") or 1)

# Clients give up an idle connection after 30 s, before the server does: the server must never be the first.
keepalive = 75
# A worker that has not stopped within this time is killed. While the application shuts down, a worker no longer signals
# that it is alive, so the time after which a silent worker is killed (`timeout`) is longer.
graceful_timeout = 20
timeout = 30

# A worker signals that it is alive by touching a file, which blocks the event loop on a slow disk.
if os.access("/dev/shm", os.W_OK):
    worker_tmp_dir = "/dev/shm"

# Gunicorn trusts no forwarded headers; the kit reads X-Real-IP, from the gateway's networks only.
forwarded_allow_ips = ""
# The control socket would start a thread in the master, which must not have any when it forks.
control_socket_disable = True

# A service owns one store; the other's driver would only cost time and memory.
_stores = [name for name in shared_imports.DRIVERS if {name, f"{name}_FILE"} & os.environ.keys()]
shared_imports.import_packages(_stores)


def on_starting(_server):
    """Remove the metrics of former processes."""
    if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        # A full disk is no reason not to start: workers keep in memory what they cannot write.
        with contextlib.suppress(OSError):
            Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        for values in Path(directory).glob("*.db"):
            values.unlink()


def when_ready(_server):
    """Exclude the imported objects from garbage collection, so that their memory pages stay shared after a fork."""
    shared_imports.keep_shared()


def pre_fork(_server, worker):
    """Give a new worker a place among those that share the connections."""
    worker.place = counts.reserve()


def post_fork(server, worker):
    """End a new worker with its master, and collect no garbage while the worker imports the service."""
    die_with_master(server.pid)
    counts.take(worker.place)
    gc.disable()


def post_worker_init(_worker):
    """Collect garbage again when the service is imported."""
    gc.enable()


def child_exit(_server, worker):
    """Remove an ended worker from those that share the connections, and from the gauges that count living ones."""
    counts.release(worker.place)
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        metric_files.remove_values_of(worker.pid)
