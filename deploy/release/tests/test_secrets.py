"""The secrets of a deployment: made once, kept, private, and never half-written."""

import base64
import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from opskit.catalog import read_catalog
from opskit.secret_files import write_secrets, write_service_secrets
from release_tool.console import Console
from release_tool.deployment import Deployment

CATALOG = read_catalog()


def content(directory: Path) -> dict[str, str]:
    files = [path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(directory)): path.read_text() for path in files}


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "secrets"


@pytest.mark.needs("analytics", "notes", "assets")
def test_each_file_that_the_compose_files_name_is_made(directory):
    write_secrets(directory, "production", CATALOG)

    assert set(content(directory)) == {
        *(f"{name}/{kind}" for name in CATALOG for kind in ("valkey_url", "fingerprint_secret")),
        *(f"{name}/database_url" for name in ("user", "assets")),
        *(f"{name}/mongo_url" for name in ("analytics", "notes")),
        "assets/link_secret",
        "user/smtp_url",
        *(f"postgres/{name}_password" for name in ("superuser", "user", "assets")),
        *(f"mongo/{name}" for name in ("root_password", "keyfile", "analytics_password", "notes_password")),
        "valkey/administrator_password",
        "valkey/users.acl",
    }
    assert (directory / "tls").is_dir()


def test_only_the_owner_enters_the_directory_and_containers_can_read_the_files(directory):
    previous = os.umask(0o077)
    try:
        write_secrets(directory, "production", CATALOG)
    finally:
        os.umask(previous)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {stat.S_IMODE((directory / name).stat().st_mode) for name in content(directory)}
    assert modes == {0o444}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir() if path.is_dir()}
    # The gateway's container reads the directory of the certificate itself.
    assert modes.pop("tls") == 0o755
    assert set(modes.values()) == {0o700}


def test_existing_files_get_the_modes_of_new_ones_and_certificates_keep_theirs(directory):
    write_secrets(directory, "production", CATALOG)
    (directory / "postgres").chmod(0o755)
    (directory / "postgres/user_password").chmod(0o666)
    (directory / "tls/key.pem").touch(0o640)

    write_secrets(directory, "production", CATALOG)

    places = (("postgres", 0o700), ("postgres/user_password", 0o444), ("tls/key.pem", 0o640))
    for place, mode in places:
        assert stat.S_IMODE((directory / place).stat().st_mode) == mode


@pytest.mark.needs("notes")
@pytest.mark.parametrize(
    ("environment", "nodes"),
    [("production", "mongo-1:27017,mongo-2:27017,mongo-3:27017"), ("development", "mongo-1:27017")],
)
def test_urls_name_the_stores_and_hold_the_passwords_that_the_stores_are_given(directory, environment, nodes):
    write_secrets(directory, environment, CATALOG)
    files = content(directory)

    password = files["mongo/notes_password"]
    assert files["notes/mongo_url"] == f"mongodb://notes:{password}@{nodes}/notes?authSource=notes&replicaSet=rs0"
    password = files["postgres/user_password"]
    assert files["user/database_url"] == f"postgresql+asyncpg://user:{password}@postgres:5432/user"
    url = urlsplit(files["user/valkey_url"])
    assert (url.scheme, url.username, url.hostname, url.port, url.path) == ("redis", "user", "valkey", 6379, "/0")
    assert hashlib.sha256((url.password or "").encode()).hexdigest() in files["valkey/users.acl"]


def test_secrets_are_long_and_differ_and_mongodb_accepts_the_key_file(directory):
    write_secrets(directory, "production", CATALOG)
    files = content(directory)

    random = [text for name, text in files.items() if name.endswith(("_password", "_secret"))]
    assert len(set(random)) == len(random)
    assert all(len(bytes.fromhex(text)) == 32 for text in random)
    keyfile = files["mongo/keyfile"]
    assert len(base64.b64decode(keyfile)) == 756
    assert len(keyfile) <= 1024


def test_a_second_run_changes_nothing(directory):
    write_secrets(directory, "production", CATALOG)
    before = content(directory)

    written = write_secrets(directory, "production", CATALOG)

    assert (written.made, written.changed) == ((), ())
    assert content(directory) == before


def test_concurrent_runs_make_each_secret_once(directory):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _number: write_secrets(directory, "production", CATALOG), range(8)))

    made = [name for run in runs for name in run.made]
    assert len(made) == len(set(made)) == len(content(directory))
    assert [run.changed for run in runs] == [()] * 8


@pytest.mark.needs("analytics", "notes", "assets")
def test_a_new_service_gets_secrets_and_access_and_the_others_keep_theirs(directory):
    fewer = {name: entry for name, entry in CATALOG.items() if name != "assets"}
    write_secrets(directory, "production", fewer)
    before = content(directory)

    written = write_secrets(directory, "production", CATALOG)

    assert written.changed == ("valkey/users.acl",)
    after = content(directory)
    assert {name: after[name] for name in before if name != "valkey/users.acl"} == {
        name: text for name, text in before.items() if name != "valkey/users.acl"
    }
    assert "user assets on #" in after["valkey/users.acl"]


def test_a_removed_secret_is_made_again_with_the_files_derived_from_it(directory):
    write_secrets(directory, "production", CATALOG)
    (directory / "postgres/user_password").unlink()

    written = write_secrets(directory, "production", CATALOG)

    assert (written.made, written.changed) == (("postgres/user_password",), ("user/database_url",))
    password = (directory / "postgres/user_password").read_text()
    assert password in (directory / "user/database_url").read_text()


def test_a_password_that_the_operator_chose_may_hold_any_character(directory):
    write_secrets(directory, "production", CATALOG)
    path = directory / "postgres/user_password"
    path.chmod(0o600)
    path.write_text("a/b@c: 1\n")

    write_secrets(directory, "production", CATALOG)

    url = urlsplit((directory / "user/database_url").read_text())
    assert (unquote(url.password or ""), url.hostname) == ("a/b@c: 1", "postgres")


def test_no_secret_is_printed(capsys, root):
    Deployment("production", Console(), root=root).write_secrets()

    printed = capsys.readouterr().out
    assert "secret files made in" in printed
    assert not [text for text in content(root / ".secrets/production").values() if text in printed]


@pytest.mark.parametrize("line", ["SECRETS_DIR=elsewhere", "SECRETS_DIR = 'elsewhere'"])
def test_the_directory_may_be_set_in_dotenv_as_for_compose(root, monkeypatch, line):
    monkeypatch.delenv("SECRETS_DIR", raising=False)
    (root / ".env").write_text(f"# SECRETS_DIR=commented\n{line}\n")

    assert Deployment("production", Console(), root=root).secrets_directory == root / "elsewhere"


@pytest.mark.needs("notes")
def test_a_cluster_gets_the_addresses_of_its_own_stores(directory):
    write_secrets(directory, "cluster", CATALOG)

    assert (
        "@mongo-0.mongo:27017,mongo-1.mongo:27017,mongo-2.mongo:27017/notes?" in content(directory)["notes/mongo_url"]
    )


def test_services_with_stores_elsewhere_get_only_secrets_of_their_own(directory):
    made = write_service_secrets(directory, CATALOG).made

    links = {f"{name}/link_secret" for name, entry in CATALOG.items() if entry.keeps_files}
    assert set(made) == set(content(directory)) == {f"{name}/fingerprint_secret" for name in CATALOG} | links
    assert write_service_secrets(directory, CATALOG).made == ()
