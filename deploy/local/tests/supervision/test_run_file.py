"""run.json: shape, mode, currency."""

import json
import stat

from local_platform.supervision.run_file import RunFile


async def test_it_lists_what_runs_and_follows_restarts_and_stops(supervisor, make_spec, layout):
    complaints: list[str] = []
    run_file = RunFile(layout.run_file, "http://127.0.0.1:8080", complaints.append)
    supervisor.listen(run_file.note)
    child = supervisor.add(make_spec("notes-1", service="notes"))
    await child.wait_ready()

    def read():
        return json.loads(layout.run_file.read_text())

    entry = {"name": "notes-1", "service": "notes", "pid": child.pid, "url": child.spec.url}
    assert read() == {"gateway": "http://127.0.0.1:8080", "processes": [entry]}
    assert stat.S_IMODE(layout.run_file.stat().st_mode) == 0o600

    supervisor.kill("notes-1")
    while child.pid in (None, entry["pid"]):
        # Between two lives the entry stays, so that a reader who looks for the name finds it.
        assert [process["name"] for process in read()["processes"]] == ["notes-1"]
        await child.next_change()
    assert read()["processes"] == [{**entry, "pid": child.pid}]

    await child.stop()
    assert read()["processes"] == []
    run_file.remove()
    assert not layout.run_file.exists()
    assert complaints == []


async def test_the_primary_stands_before_the_other_nodes(supervisor, make_spec, layout):
    run_file = RunFile(layout.run_file, "", print)
    supervisor.listen(run_file.note)
    for name in ("postgres", "mongo-1", "mongo-2"):
        await supervisor.add(make_spec(name)).wait_ready()
    run_file.put_first("mongo-2")
    names = [process["name"] for process in json.loads(layout.run_file.read_text())["processes"]]
    assert names == ["mongo-2", "postgres", "mongo-1"]


async def test_a_file_that_cannot_be_written_keeps_no_child_from_running(supervisor, make_spec, layout):
    complaints: list[str] = []
    supervisor.listen(RunFile(layout.root / "gone" / "run.json", "", complaints.append).note)
    await supervisor.add(make_spec()).wait_ready()
    assert "cannot be kept current" in complaints[0]
