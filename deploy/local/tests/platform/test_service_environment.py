"""The environment of a service's processes."""

import dataclasses
import json
from pathlib import Path

from local_platform.platform.service_environment import service_environment, write_secrets
from opskit.catalog import ServiceEntry

ACCOUNTS = ServiceEntry("accounts", "accounts", 8002, "postgres", ("events",), ("/.well-known/jwks.json",))
EVENTS = ServiceEntry("events", "events", 8001, "mongo")


def test_only_the_issuer_of_tokens_gets_the_directory_of_signing_keys(layout):
    assert "JWT_KEYS_DIR" in service_environment(layout, ACCOUNTS)
    assert "JWT_KEYS_DIR" not in service_environment(layout, EVENTS)


def test_only_a_service_that_keeps_files_gets_a_folder_and_a_secret_for_links(layout):
    archive = dataclasses.replace(ACCOUNTS, name="archive", keeps_files=True)
    write_secrets(layout, archive, store_url="postgresql://x", valkey_url="redis://y")
    environment = service_environment(layout, archive)
    assert environment["ARCHIVE_DIR"] == str(layout.root / "archive")
    assert environment["ARCHIVE_X_ACCEL"] == "1"
    assert Path(environment["LINK_SECRET_FILE"]).read_text()
    assert "LINK_SECRET_FILE" not in service_environment(layout, ACCOUNTS)


def test_a_secret_in_the_users_environment_does_not_reach_a_service(layout, monkeypatch):
    for name in ("DATABASE_URL", "VALKEY_URL", "MONGO_URL_FILE", "FINGERPRINT_SECRET"):
        monkeypatch.setenv(name, "stray")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    environment = service_environment(layout, ACCOUNTS, peers={"events": ["http://e"]})
    assert "stray" not in environment.values()
    assert environment["LOG_LEVEL"] == "DEBUG"
    assert json.loads(environment["PEER_URLS"]) == {"events": ["http://e"]}
