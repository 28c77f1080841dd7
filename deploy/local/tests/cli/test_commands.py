"""Commands beside a platform: in a service's environment, or with a database of their own."""

import dataclasses
import json
import shutil
from pathlib import Path

from local_platform.cli import admin, service_command
from local_platform.cli.migration import write_migration
from local_platform.files import SecretFiles
from local_platform.layout import REPOSITORY
from local_platform.platform.service_environment import service_environment, write_secrets
from opskit.catalog import ServiceEntry, read_catalog

ACCOUNTS = ServiceEntry("accounts", "accounts", 8002, "postgres", ("events",), ("/.well-known/jwks.json",))
EVENTS = ServiceEntry("events", "events", 8001, "mongo")

SHOW = "import json, os, sys\njson.dump([sys.argv[1:], dict(os.environ)], open('shown.json', 'w'))\nsys.exit(3)"


def test_without_a_running_platform_the_user_is_told_how_to_start_one(tmp_path, capsys):
    assert admin.main(["--data-dir", str(tmp_path), "alice"]) == 1
    assert service_command.main(["--data-dir", str(tmp_path), next(iter(read_catalog())), "some.module"]) == 1
    assert capsys.readouterr().err.count(f"start it with: make run DATA_DIR={tmp_path}") == 2


def test_a_module_runs_with_its_arguments_in_the_services_environment(layout, tmp_path, monkeypatch):
    layout.run_file.touch()
    secrets = SecretFiles(layout.secrets)
    write_secrets(secrets, EVENTS, store_url="mongodb://x", valkey_url="redis://y")
    (tmp_path / "shown.py").write_text(SHOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert service_command.run_module(layout.root, EVENTS, "shown", ["a", "-b"]) == 3
    arguments, environment = json.loads((tmp_path / "shown.json").read_text())
    assert arguments == ["a", "-b"]
    assert Path(environment["MONGO_URL_FILE"]).read_text() == "mongodb://x"


def test_only_who_issues_tokens_gets_the_directory_of_their_keys(layout):
    secrets = SecretFiles(layout.secrets)
    assert "JWT_KEYS_DIR" in service_environment(secrets, ACCOUNTS)
    assert "JWT_KEYS_DIR" not in service_environment(secrets, EVENTS)


def test_only_who_keeps_files_gets_a_folder_and_a_secret_for_links(layout):
    secrets = SecretFiles(layout.secrets)
    archive = dataclasses.replace(ACCOUNTS, name="archive", keeps_files=True)
    write_secrets(secrets, archive, store_url="postgresql://x", valkey_url="redis://y")
    environment = service_environment(secrets, archive)
    assert environment["ARCHIVE_DIR"] == str(layout.root / "archive")
    assert environment["ARCHIVE_X_ACCEL"] == "1"
    assert Path(environment["LINK_SECRET_FILE"]).read_text()
    assert "LINK_SECRET_FILE" not in service_environment(secrets, ACCOUNTS)


def test_a_stray_secret_in_our_own_environment_does_not_reach_a_service(layout, monkeypatch):
    for name in ("DATABASE_URL", "VALKEY_URL", "MONGO_URL_FILE", "FINGERPRINT_SECRET"):
        monkeypatch.setenv(name, "stray")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    environment = service_environment(SecretFiles(layout.secrets), ACCOUNTS, peers={"events": ["http://e"]})
    assert "stray" not in environment.values()
    assert environment["LOG_LEVEL"] == "DEBUG"
    assert json.loads(environment["PEER_URLS"]) == {"events": ["http://e"]}


async def test_a_migration_is_written_from_the_models_without_a_running_platform(tmp_path):
    service = next(entry.name for entry in read_catalog().values() if entry.store == "postgres")
    folder = tmp_path / service
    shutil.copytree(REPOSITORY / service / "migrations", folder / "migrations", ignore=shutil.ignore_patterns("0*"))
    shutil.copy(REPOSITORY / service / "alembic.ini", folder)
    written = await write_migration(folder, "everything")
    assert written is not None
    assert "op.create_table" in written.read_text()
    assert await write_migration(folder, "nothing more") is None
