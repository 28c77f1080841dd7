"""A rotation goes on when every worker of every replica that takes part has said so, and not before."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from servicekit.ops.rotation import workers as workers_module
from servicekit.ops.rotation.errors import FleetUnknown, WorkersDisagree
from servicekit.ops.rotation.fleet import NamedFleet, RunFileFleet
from servicekit.ops.rotation.workers import Demand, Need, Workers, worker_reports

DEMAND = Demand(frozenset({"a", "b"}), "a--b", "new", Need.HELD)


def _metrics(*workers: Mapping[str, int] | None) -> str:
    """Return what a replica with these workers exposes; None has announced itself and read nothing yet."""
    lines = []
    for pid, keys in enumerate(workers):
        lines.append(f'service_key_holder{{pid="{pid}"}} 1.0')
        lines += [
            f'service_key_state{{key="{key}",pid="{pid}",set="a--b"}} {state}.0' for key, state in (keys or {}).items()
        ]
    return "\n".join(["# TYPE service_key_holder gauge", *lines, ""])


class Replicas:
    """A fleet whose metrics a test sets, for each look anew."""

    def __init__(self, *looks: Mapping[str, str]) -> None:
        """Each of `looks` maps `service-number` to its metrics; an empty text is a replica that does not respond."""
        self._looks = list(looks)
        self.seen = 0

    async def replicas(self) -> dict[str, list[str]]:
        self._look = self._looks[min(self.seen, len(self._looks) - 1)]
        self.seen += 1
        found: dict[str, list[str]] = {}
        for name in self._look:
            found.setdefault(name.partition("-")[0], []).append(name)
        return found

    async def require(self, _services: object) -> None:
        """All of them are known."""

    async def scrape(self, url: str) -> str:
        if not self._look[url]:
            raise ConnectionRefusedError
        return self._look[url]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Callable[..., object]:
    monkeypatch.setattr(workers_module, "POLL_SECONDS", 0.0)

    async def reach(*looks: Mapping[str, str], demand: Demand = DEMAND, timeout: float = 5) -> int:
        replicas = Replicas(*looks)
        await Workers(replicas, timeout=timeout, say=said.append, scrape=replicas.scrape).reach([demand])
        return replicas.seen

    return reach


HELD = _metrics({"old": 2, "new": 1})
OLD = _metrics({"old": 2})


@pytest.mark.parametrize(
    ("need", "keys", "met"),
    [
        (Need.HELD, {"old": 2}, False),
        (Need.HELD, {"old": 2, "new": 0}, False),
        (Need.HELD, {"old": 2, "new": 1}, True),
        (Need.HELD, {"old": 1, "new": 2}, True),
        (Need.IN_USE, {"old": 2, "new": 1}, False),
        (Need.IN_USE, {"old": 1, "new": 2}, True),
        (Need.SOLE, {"old": 1, "new": 2}, False),
        (Need.SOLE, {"old": 0, "new": 2}, True),
        (Need.SOLE, {"new": 2}, True),
        (Need.SOLE, {"old": 0}, False),
        (Need.HELD, {}, False),
    ],
)
def test_what_a_worker_says_meets_a_demand_or_not(need: Need, keys: dict[str, int], met: bool) -> None:
    demand = Demand(None, "a--b", "new", need)
    assert demand.is_met_by({"a--b": keys}) is met
    assert not demand.is_met_by({"b--a": keys})


@pytest.mark.parametrize(
    "lagging",
    [
        {"a-1": HELD, "b-1": HELD, "b-2": OLD},
        {"a-1": _metrics({"old": 2, "new": 1}, {"old": 2}), "b-1": HELD},
        {"a-1": _metrics({"old": 2, "new": 1}, None), "b-1": HELD},
        {"a-1": HELD, "b-1": ""},
        {"a-1": HELD, "b-1": "# nothing of ours\n"},
        {"a-1": HELD, "b-1": "<html>"},
    ],
    ids=["a replica", "a worker", "a worker that has just started", "down", "says nothing", "something else"],
)
async def test_it_waits_for(reach: Callable[..., object], lagging: dict[str, str]) -> None:
    ready = {"a-1": HELD, "b-1": HELD}
    assert await reach(lagging, lagging, ready) == 3  # type: ignore[misc]


async def test_a_service_without_the_key_is_not_asked(reach: Callable[..., object]) -> None:
    assert await reach({"a-1": HELD, "b-1": HELD, "c-1": ""}) == 1  # type: ignore[misc]


async def test_a_demand_on_all_services_asks_all(reach: Callable[..., object]) -> None:
    every_service = Demand(None, "a--b", "new", Need.HELD)
    looks = ({"a-1": HELD, "c-1": ""}, {"a-1": HELD, "c-1": HELD})
    assert await reach(*looks, demand=every_service) == 2  # type: ignore[misc]


async def test_a_wait_that_times_out_names_the_lagging_workers_and_says_that_nothing_is_lost(
    reach: Callable[..., object],
) -> None:
    with pytest.raises(WorkersDisagree) as stopped:
        await reach({"a-1": _metrics({"new": 1}, {"old": 2}), "b-1": ""}, timeout=0)  # type: ignore[misc]
    message = str(stopped.value)
    assert "worker 1 of a at a-1 lacks the new key of a--b" in message
    assert "b at b-1 does not respond" in message
    assert "nothing is lost" in message


async def test_a_long_wait_is_reported_from_time_to_time_and_in_brief(
    reach: Callable[..., object], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    down = {f"a-{number}": "" for number in range(5)}
    await reach(down, down, {"a-1": HELD})  # type: ignore[misc]
    assert said == []

    monkeypatch.setattr(workers_module, "USUAL_SECONDS", 0.0)
    await reach(down, down, down, {"a-1": HELD})  # type: ignore[misc]
    names = "; ".join(f"a at a-{number} does not respond" for number in range(3))
    assert said == [f"  waiting: {names}; 2 more"]


async def test_a_run_file_gives_the_replicas_of_services_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    fleet = RunFileFleet(path)
    with pytest.raises(FleetUnknown, match="no platform runs"):
        await fleet.require(["user"])
    processes = [
        {"name": "postgres", "service": "postgres", "pid": 1, "url": "postgresql://127.0.0.1:1"},
        {"name": "user-1", "service": "user", "pid": 2, "url": "http://127.0.0.1:2"},
        {"name": "user-2", "service": "user", "pid": 3, "url": "http://127.0.0.1:3"},
        {"name": "gateway", "service": "gateway", "pid": 4, "url": "http://127.0.0.1:4"},
    ]
    path.write_text(json.dumps({"gateway": "", "processes": processes}))
    assert await fleet.replicas() == {"user": ["http://127.0.0.1:2", "http://127.0.0.1:3"]}
    path.write_text("{}")
    with pytest.raises(FleetUnknown):
        await fleet.replicas()


async def test_a_name_stands_for_all_its_addresses() -> None:
    fleet = NamedFleet({"user": ["http://127.0.0.1:8002", "http://[::1]:8002"]})
    assert await fleet.replicas() == {"user": ["http://127.0.0.1:8002", "http://[::1]:8002"]}


async def test_a_service_without_known_replicas_is_not_skipped() -> None:
    with pytest.raises(FleetUnknown, match="notes"):
        await NamedFleet({"user": ["http://127.0.0.1:8002"]}).require(["user", "notes"])


def test_a_worker_that_has_only_announced_itself_counts_and_a_process_without_keys_does_not() -> None:
    text = 'service_key_holder{pid="7"} 1.0\nservice_key_holder{pid="8"} 0.0\n'
    assert worker_reports(text) == {"7": {}}


async def test_only_the_name_of_a_service_that_may_be_off_need_not_resolve() -> None:
    urls = {"console": ["http://console.invalid:8000"]}

    assert await NamedFleet(urls, may_be_off=["console"]).replicas() == {"console": []}
    with pytest.raises(FleetUnknown, match="does not resolve"):
        await NamedFleet(urls).replicas()
