"""Compare PyMongo's asynchronous client with motor 3.7: read by key, insert, and what cancelled calls leave of a pool.

    .venv/bin/python load/bench_drivers.py [--quick]

The script starts its own MongoDB, a replica set of one node. Each driver runs in a process of its own, in an
environment that is made once; both have the same version of PyMongo, on uvloop.
"""

from benchlib import Run, main
from benchlib.command import BenchFailed
from clients.environment import former_packages
from clients.measuring import POOL
from local_platform.stores import running_stores
from peers.obtaining import CannotObtain

IN_FLIGHT = 16
DRIVERS = {"PyMongo's async client": "pymongo", "motor 3.7": "motor"}


async def measure(run: Run) -> None:
    stores = await run.stack.enter_async_context(running_stores(run.folder, engines=["mongo"]))
    url = stores.mongo_url("bench")
    try:
        drivers = {
            name: await run.stack.enter_async_context(former_packages(url=url, driver=driver))
            for name, driver in DRIVERS.items()
        }
    except CannotObtain as error:
        raise BenchFailed(f"motor cannot be had: {error}") from error
    own, motor = drivers
    await drivers[own].do("report", "first")
    for task in ("read", "insert"):
        one, other = (driver.subject(name, task, IN_FLIGHT) for name, driver in drivers.items())
        await run.compare([one, other], group=task)
        for comparison in ("cpu", "rate"):
            run.ratio(f"{task}: {own} against {motor}", comparison, one, other)
    for name, driver in drivers.items():
        run.progress(f"{name}: cancelled calls")
        run.result(f"{name}, after cancelled calls", [await driver.do("cancel", "slow")], f"responses to {POOL} calls")


if __name__ == "__main__":
    main(measure, __doc__, rounds=7, seconds=0.5, quick=(3, 0.4))
