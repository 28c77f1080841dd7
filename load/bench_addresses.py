"""Measure whether the time of a response tells that an account has an address: known against unknown addresses.

    .venv/bin/python load/bench_addresses.py [--quick]

Requests for a mail go to the user service directly, one after the other, for known and unknown addresses in random
order: both meet the same noise. Each seems to come from another network, because of the limits. The rank says where
the median of the known addresses stands among the times of the unknown ones: between the quartiles, it is within 0.25
of the middle. It takes a minute.
"""

import bisect
import random
import statistics
import time
from collections.abc import Iterator
from ipaddress import ip_address
from uuid import uuid4

import aiohttp

from benchlib import Run, at_most, main
from benchlib.platform import PASSWORD, bench_platform
from user_service.throttling.mail_limits import PER_RECIPIENT

USERS = "/api/v1/users"
ROUTES = ("password/forgot", "verification")
# Known ones in a round. Each gets as many mails as the limit allows.
ADDRESSES = 40


def new_address() -> str:
    return f"{uuid4().hex}@example.com"


async def registered(http: aiohttp.ClientSession) -> str:
    """Register an account and return its address."""
    email = new_address()
    account = {"username": email[:32], "email": email, "password": PASSWORD}
    async with http.post(f"{USERS}/register", json=account) as response:
        response.raise_for_status()
    return email


async def timed(http: aiohttp.ClientSession, route: str, email: str, networks: Iterator[int]) -> float:
    """Return the seconds that a request for a mail takes."""
    headers = {"X-Real-IP": str(ip_address(next(networks)))}
    started = time.perf_counter()
    async with http.post(f"{USERS}/{route}", json={"email": email}, headers=headers) as response:
        if response.status != 202:
            raise RuntimeError(f"{route} got {response.status}: {await response.text()}")
        await response.read()
    return time.perf_counter() - started


def distance_from_middle(value: float, times: list[float]) -> float:
    """Return how far a value is from the middle of these times, as a share of them."""
    return abs(bisect.bisect(sorted(times), value) / len(times) - 0.5)


async def measure(run: Run) -> None:
    networks = iter(range(int(ip_address("198.18.0.0")), int(ip_address("198.20.0.0"))))
    async with bench_platform(run.folder) as platform, aiohttp.ClientSession(platform.url("user")) as http:
        for route in ROUTES:
            ratios, distances = [], []
            known: list[str] = []
            for number in range(run.options.rounds):
                if number % PER_RECIPIENT.count == 0:
                    known = [await registered(http) for _ in range(ADDRESSES)]
                asked = [(True, email) for email in known] + [(False, new_address()) for _ in known]
                random.shuffle(asked)
                times: dict[bool, list[float]] = {True: [], False: []}
                for is_known, email in asked:
                    times[is_known].append(await timed(http, route, email, networks))
                median = statistics.median(times[True])
                ratios.append(median / statistics.median(times[False]))
                distances.append(distance_from_middle(median, times[False]))
                run.progress(f"{route}: round {number + 1} of {run.options.rounds}")
            run.result(f"{route}: known addresses", ratios, "p50, of unknown addresses")
            run.result(f"{route}: rank of known among unknown", distances, "from the middle", at_most(0.25))


if __name__ == "__main__":
    main(measure, __doc__, rounds=8, quick=(2, 1.0))
