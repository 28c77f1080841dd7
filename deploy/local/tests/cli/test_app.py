"""The commands of `python -m local_platform`: options, exit statuses, messages."""

import json
import subprocess
from pathlib import Path

import pytest

from local_platform.cli.app import main
from local_platform.layout import REPOSITORY
from local_platform.platform.options import Options
from local_platform.platform.service_environment import write_secrets
from opskit.catalog import read_catalog
from servicekit.sealing.key_files import file_name, read_key_file

USER = read_catalog()["user"]
SHOW = "import json, os, sys\njson.dump([sys.argv[1:], dict(os.environ)], open('shown.json', 'w'))\nsys.exit(3)"


@pytest.fixture
def options(monkeypatch) -> list[Options]:
    """The options of each platform that would have been started."""
    started: list[Options] = []
    monkeypatch.setattr("local_platform.cli.run.run_platform", started.append)
    for name in ("GATEWAY_PORT", "DATA_DIR", "REPLICAS", "MONGO_NODES", "CONSOLE"):
        monkeypatch.delenv(name, raising=False)
    return started


def test_options_come_from_the_command_line_then_from_the_environment(options, monkeypatch):
    monkeypatch.setenv("REPLICAS", "3")
    assert main(["run", "--data-dir", "here"]) == 0
    monkeypatch.setenv("CONSOLE", "off")
    assert main(["run", "--replicas", "2"]) == 0
    assert options == [
        Options(Path("here"), 8080, 3, 1, console=True),
        Options(Path(".data"), 8080, 2, 1, console=False),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATA_DIR", ""),
        ("DATA_DIR", " "),
        ("GATEWAY_PORT", ""),
        ("GATEWAY_PORT", "http"),
        ("GATEWAY_PORT", "80.5"),
        ("REPLICAS", ""),
        ("REPLICAS", "abc"),
        ("REPLICAS", "²"),
        ("MONGO_NODES", ""),
        ("MONGO_NODES", "0x3"),
    ],
)
def test_a_make_variable_without_a_usable_value_is_named(options, monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    assert main(["run"]) == 1
    assert options == []
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name}")
    assert f"such as {name}=" in error
    assert "--" not in error


@pytest.mark.parametrize("data_dir", [".", "..", "shared", "deploy/local"])
def test_source_files_are_no_data_directory(monkeypatch, capsys, data_dir):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("DATA_DIR", data_dir)
    assert main(["keys"]) == 1
    assert "such as DATA_DIR=.data" in capsys.readouterr().err
    assert not (REPOSITORY / data_dir / "secrets").exists()


@pytest.mark.parametrize("left", [[], ["launcher.lock"], ["secrets", "logs"]], ids=["nothing", "lock", "data"])
def test_a_directory_of_an_earlier_start_inside_the_checkout_is_used_again(tmp_path, monkeypatch, capsys, left):
    monkeypatch.setattr("local_platform.layout.REPOSITORY", tmp_path)
    for name in left:
        (tmp_path / "data" / name).mkdir(parents=True)
    assert main(["keys", "--data-dir", str(tmp_path / "data")]) == 0
    (tmp_path / "other" / "source").mkdir(parents=True)
    assert main(["keys", "--data-dir", str(tmp_path / "other")]) == 1
    assert "holds source files" in capsys.readouterr().err


def test_the_home_of_an_unknown_user_is_no_data_directory(capsys):
    assert main(["keys", "--data-dir", "~nobody-of-this-name/data"]) == 1
    assert "write the whole path" in capsys.readouterr().err


def test_help_of_run_names_every_setting(capsys):
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    options = ("GATEWAY_PORT", "DATA_DIR", "REPLICAS", "MONGO_NODES")
    for name in (*options, "MAX_UPLOAD_BYTES", "USER_RATE", "SERVICE_CIPHER", "DISPATCH_TRANSPORT", "LOG_LEVEL"):
        assert name in shown


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["no-such-command"],
        ["admin"],
        ["run", "--replicas", "many"],
        ["migration", "notes", "a collection needs none"],
        ["exec", "no-such-service", "module"],
        ["new-service", "billing", "sqlite"],
    ],
)
def test_wrong_usage_exits_with_2_and_shows_the_usage(words, capsys):
    assert main(words) == 2
    output = capsys.readouterr()
    assert "Usage: python -m local_platform" in output.out + output.err


@pytest.mark.parametrize(
    "words",
    [
        ["admin", "alice"],
        ["demo"],
        ["exec", "user", "some.module"],
        ["logs"],
        ["rotate-jwt-key"],
        ["rotate-keys"],
    ],
)
def test_without_a_running_platform_one_line_says_how_to_start_it(tmp_path, capsys, monkeypatch, words):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: no platform runs on ")
    assert error.endswith(f"start it with: make run DATA_DIR={tmp_path}\n")
    assert error.count("\n") == 1


def test_a_module_runs_with_its_arguments_in_the_services_environment(layout, tmp_path, monkeypatch):
    layout.run_file.write_text('{"processes": []}')
    write_secrets(layout, USER, store_url="postgresql://x", valkey_url="redis://y")
    (tmp_path / "shown.py").write_text(SHOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main(["exec", "--data-dir", str(layout.root), "user", "shown", "a", "-b", "--data-dir"]) == 3
    arguments, environment = json.loads((tmp_path / "shown.json").read_text())
    assert arguments == ["a", "-b", "--data-dir"]
    assert Path(environment["DATABASE_URL_FILE"]).read_text() == "postgresql://x"


def test_logs_of_an_unknown_name_are_refused_with_the_names_that_run(layout, capsys):
    layout.run_file.write_text(json.dumps({"processes": [{"name": "user-1", "service": "user"}]}))
    assert main(["logs", "--data-dir", str(layout.root), "billing"]) == 1
    assert "choose one of user" in capsys.readouterr().err


def test_logs_of_a_killed_platform_are_refused(layout, capsys):
    killed = subprocess.Popen(["true"])
    killed.wait()
    layout.run_file.write_text(json.dumps({"processes": [{"name": "user-1", "service": "user", "pid": killed.pid}]}))
    assert main(["logs", "--data-dir", str(layout.root)]) == 1
    assert "was killed; start it again" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["logs", "demo"])
@pytest.mark.parametrize("text", ["", "{", "[]"], ids=["empty", "broken", "list"])
def test_a_damaged_run_file_is_named(layout, capsys, command, text):
    layout.run_file.write_text(text)
    assert main([command, "--data-dir", str(layout.root)]) == 1
    assert f"{layout.run_file} is damaged" in capsys.readouterr().err


def key_files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*.json")}


@pytest.mark.needs("analytics")
@pytest.mark.parametrize("option", ["--keys-dir", "--data-dir"])
def test_keys_writes_one_key_for_each_pair_of_the_service_list_once(tmp_path, capsys, option):
    root = tmp_path if option == "--keys-dir" else tmp_path / "secrets" / "keys"
    assert main(["keys", option, str(tmp_path)]) == 0
    written = key_files(root)
    calls = [(entry.name, callee) for entry in read_catalog(operators=True).values() for callee in entry.calls]
    assert {path.relative_to(root).as_posix() for path in written} == {
        f"{side}/{file_name(*call)}" for call in calls for side in call
    }
    assert set(capsys.readouterr().out.splitlines()) == set(map(str, written))

    assert main(["keys", option, str(tmp_path)]) == 0
    assert key_files(root) == written
    assert "no key is missing" in capsys.readouterr().out


@pytest.mark.needs("analytics")
def test_keys_writes_a_lost_file_again_with_the_same_key(tmp_path, capsys):
    main(["keys", "--keys-dir", str(tmp_path)])
    lost = next(iter(key_files(tmp_path)))
    before = [key.id for key in read_key_file(lost).keys]
    lost.unlink()
    capsys.readouterr()

    assert main(["keys", "--keys-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(lost)]
    assert [key.id for key in read_key_file(lost).keys] == before


@pytest.mark.needs("analytics")
def test_keys_names_a_damaged_file_and_leaves_it_as_it_is(tmp_path, capsys):
    main(["keys", "--keys-dir", str(tmp_path)])
    damaged = next(iter(key_files(tmp_path)))
    damaged.write_text("{")
    assert main(["keys", "--keys-dir", str(tmp_path)]) == 1
    assert str(damaged) in capsys.readouterr().err
    assert damaged.read_text() == "{"
