"""`make new-service` in a copy of the repository: what it writes is checked, tested, started and called."""

import os
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest

from local_platform.layout import REPOSITORY
from servicekit.sealing.keyring import Keyring
from servicekit.testing.sealed import SealedPeer
from servicekit.testing.serving import http_client
from tests.copies import PATIENCE_SECONDS, copy_repository, run, running_copy

PASSWORD = "correct horse battery staple"
NEW = {"billing": "postgres", "ledger": "mongo"}
COUNT = "/internal/entries/count"

pytestmark = [pytest.mark.servers, pytest.mark.timeout(PATIENCE_SECONDS)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files, committed or not, with two new services."""
    root = copy_repository(tmp_path_factory.mktemp("repository"))
    for name, store in NEW.items():
        run(root, "python", "-m", "local_platform", "new-service", name, store)
    return root


def test_what_is_written_passes_the_checks(copy: Path) -> None:
    run(copy, "ruff", "format", "--check", *NEW)
    run(copy, "ruff", "check", *NEW)
    run(copy, "lint-imports", "--no-cache")
    run(copy, "bandit", "--quiet", "--recursive", "--configfile", "pyproject.toml", *NEW)
    # By the repository's own settings and cache, which knows all third-party packages already.
    packages = [argument for name in NEW for argument in ("-p", f"{name}_service")]
    run(REPOSITORY, "mypy", *packages, PYTHONPATH="", MYPYPATH=os.pathsep.join(str(copy / name) for name in NEW))


def test_what_is_written_passes_its_own_tests(copy: Path) -> None:
    output = run(copy, "pytest", "-q", "-p", "no:cacheprovider", *(f"{name}/tests" for name in NEW))
    assert " passed" in output


def test_what_is_written_keeps_the_promises_of_the_compose_files(copy: Path) -> None:
    output = run(copy, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_compose_files.py")
    assert " passed" in output


async def sign_in(gateway: httpx2.AsyncClient) -> tuple[UUID, Mapping[str, str]]:
    """Register and log in; return the account's id and the header of its requests."""
    name = f"u{uuid4().hex[:20]}"
    account = await gateway.post(
        "/api/v1/users/register", json={"username": name, "email": f"{name}@mail.dev", "password": PASSWORD}
    )
    assert account.status_code == 201, account.text
    tokens = await gateway.post("/api/v1/users/login", json={"username_or_email": name, "password": PASSWORD})
    return UUID(account.json()["id"]), {"Authorization": f"Bearer {tokens.json()['access_token']}"}


async def test_new_services_answer_users_through_the_gateway_and_services_by_sealed_calls(
    copy: Path, tmp_path: Path
) -> None:
    async with running_copy(copy, tmp_path) as url, http_client(url) as gateway:
        user_id, headers = await sign_in(gateway)
        _, stranger = await sign_in(gateway)
        assert (await gateway.get("/lb-health")).json()["services"].keys() >= NEW.keys()
        keyring = Keyring("user", tmp_path / "secrets" / "keys" / "user")
        processes = orjson.loads((tmp_path / "run.json").read_bytes())["processes"]

        for name in NEW:
            api = f"/api/v1/{name}"
            created = await gateway.post(api, json={"title": "a title"}, headers=headers)
            assert created.status_code == 201, created.text
            path = created.headers["Location"]
            assert (await gateway.get(path, headers=headers)).json() == created.json()
            assert (await gateway.get(f"/api/{name}", headers=headers)).json()["items"] == [created.json()]
            assert (await gateway.get(path, headers=stranger)).status_code == 404
            assert (await gateway.get(path)).status_code == 401

            # Sealed, from service to service, as the user service does it.
            count = f"{COUNT}?owner_id={user_id}"
            own = next(process["url"] for process in processes if process["service"] == name)
            async with http_client(own) as direct:
                peer = SealedPeer(direct, "user", name, keyring)
                recorded = peer.seal("GET", count)
                answer = await peer.send(recorded)
                assert b"count" not in answer.content
                assert peer.open(recorded, answer).json() == {"count": 1}
                assert (await peer.send(recorded)).status_code == 401, "a message is good for once"
                assert (await direct.get(count, headers=headers)).status_code == 401, "never plain"

            # From outside it is no door: internal paths lead nowhere, and the marks of a sealed message are stripped.
            outside = SealedPeer(gateway, "user", name, keyring)
            assert (await outside.send(outside.seal("GET", count))).status_code == 404
            refused = await outside.send(outside.seal("GET", api))
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"].startswith("Bearer")
