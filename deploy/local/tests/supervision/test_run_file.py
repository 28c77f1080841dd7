"""run.json: its form, its mode, and that it is kept current."""

import json
import stat

from local_platform.supervision.run_file import RunFile


async def test_it_lists_what_runs_and_follows_restarts_and_stops(supervisor, make_spec, layout):
    warnings: list[str] = []
    run_file = RunFile(layout.run_file, "http://127.0.0.1:8080", warnings.append)
    supervisor.listen(run_file.update)
    process = supervisor.add(make_spec("notes-1", service="notes"))
    await process.wait_ready()

    def read():
        return json.loads(layout.run_file.read_text())

    entry = {"name": "notes-1", "service": "notes", "pid": process.pid, "url": process.spec.url}
    assert read() == {"gateway": "http://127.0.0.1:8080", "processes": [entry]}
    assert stat.S_IMODE(layout.run_file.stat().st_mode) == 0o600

    supervisor.kill("notes-1")
    while process.pid in (None, entry["pid"]):
        # While the process restarts, its entry stays, so that a reader finds the name.
        assert [listed["name"] for listed in read()["processes"]] == ["notes-1"]
        await process.next_change()
    assert read()["processes"] == [{**entry, "pid": process.pid}]

    await process.stop()
    assert read()["processes"] == []
    run_file.remove()
    assert not layout.run_file.exists()
    assert warnings == []


async def test_the_primary_stands_before_the_other_nodes(supervisor, make_spec, layout):
    run_file = RunFile(layout.run_file, "", print)
    supervisor.listen(run_file.update)
    for name in ("postgres", "mongo-1", "mongo-2"):
        await supervisor.add(make_spec(name)).wait_ready()
    run_file.put_first("mongo-2")
    names = [process["name"] for process in json.loads(layout.run_file.read_text())["processes"]]
    assert names == ["mongo-2", "postgres", "mongo-1"]


async def test_processes_run_even_when_the_file_cannot_be_written(supervisor, make_spec, layout):
    warnings: list[str] = []
    supervisor.listen(RunFile(layout.root / "gone" / "run.json", "", warnings.append).update)
    await supervisor.add(make_spec()).wait_ready()
    assert "cannot be kept current" in warnings[0]
