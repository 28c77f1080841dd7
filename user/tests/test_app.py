"""The assembled service: its routes, their callers, its start, and outages of its stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr, ValidationError

from opskit.catalog import JWKS_PATH
from user_service.app import create_app
from user_service.settings import Settings
from user_service.tokens.signing_keys import SigningKeyError, ensure_signing_key

API = "/api/v1/users"
ROUTES = {
    ("POST", f"{API}/register"): "optional",
    ("POST", f"{API}/login"): "public",
    ("POST", f"{API}/token"): "public",
    ("POST", f"{API}/refresh"): "public",
    ("POST", f"{API}/logout"): "public",
    ("GET", f"{API}/sessions"): "public",
    ("DELETE", f"{API}/sessions/{{session_id}}"): "public",
    ("GET", f"{API}/profile"): "public",
    ("PATCH", f"{API}/profile"): "public",
    ("DELETE", f"{API}/profile"): "public",
    ("POST", f"{API}/password"): "public",
    ("GET", f"{API}/api-keys"): "public",
    ("POST", f"{API}/api-keys"): "public",
    ("GET", f"{API}/api-keys/{{key_id}}"): "public",
    ("DELETE", f"{API}/api-keys/{{key_id}}"): "public",
    ("POST", f"{API}/password/forgot"): "public",
    ("POST", f"{API}/password/reset"): "public",
    ("POST", f"{API}/email"): "public",
    ("POST", f"{API}/verification"): "public",
    ("POST", f"{API}/verification/confirm"): "public",
    ("POST", f"{API}/invitations"): "public",
    ("GET", f"{API}/invitations"): "public",
    ("DELETE", f"{API}/invitations/{{invitation_id}}"): "public",
    ("POST", f"{API}/invitations/accept"): "public",
    ("GET", f"{API}/stats/count"): "optional",
    ("GET", API): "public",
    ("GET", f"{API}/{{user_id}}"): "public",
    ("DELETE", f"{API}/{{user_id}}"): "public",
    ("PUT", f"{API}/{{user_id}}/role"): "public",
    ("DELETE", f"{API}/{{user_id}}/sessions"): "public",
    ("GET", "/internal/accounts/{user_id}"): "sealed",
    ("GET", JWKS_PATH): "optional",
    ("GET", "/health"): "public",
    ("GET", "/ready"): "public",
}


async def test_the_documentation_lists_exactly_these_routes_with_their_policies(replica: Any) -> None:
    document = (await replica.http.get("/openapi.json")).json()

    found = {
        (method.upper(), path): operation["x-service-policy"]["mode"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert found == ROUTES
    assert (await replica.http.get("/docs")).status_code == 200


async def test_the_docs_page_can_log_in(replica: Any) -> None:
    document = (await replica.http.get("/openapi.json")).json()

    (scheme,) = document["components"]["securitySchemes"].values()
    assert scheme["flows"]["password"]["tokenUrl"] == f"{API}/token"


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1].startswith(API)])
async def test_every_route_answers_nonsense_with_a_client_error(replica: Any, method: str, path: str) -> None:
    ada = await replica.sign_in()
    url = path.format(user_id="nonsense", session_id="nonsense", key_id="nonsense", invitation_id="nonsense")
    for headers in ({}, {"Authorization": "Bearer nonsense"}, ada.headers):
        if (method, path) in {("DELETE", f"{API}/profile"), ("GET", f"{API}/profile")} and headers is ada.headers:
            continue
        response = await replica.http.request(
            method, url, content=b"\x00\xff{", headers={"Content-Type": "application/json", **headers}
        )
        assert response.status_code < 500
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json"


async def test_an_unknown_path_or_method_is_a_problem_document(replica: Any) -> None:
    assert (await replica.http.get(f"{API}/a/b/c")).status_code == 404
    put = await replica.http.put(f"{API}/profile")
    assert put.status_code == 405
    assert put.headers["content-type"] == "application/problem+json"


async def test_the_analytics_service_reads_the_count_with_a_sealed_call(replica: Any) -> None:
    analytics = replica.service("analytics")
    plain = await replica.http.get(f"{API}/stats/count")

    for path in (f"{API}/stats/count", JWKS_PATH):
        assert (await analytics.call("GET", path)).status == 200
    assert (await analytics.call("GET", f"{API}/stats/count")).json() == plain.json()


@pytest.mark.parametrize("path", ["/profile", "/sessions", ""])
async def test_a_service_cannot_call_the_routes_of_users(replica: Any, path: str) -> None:
    ada = await replica.sign_in()
    analytics = replica.service("analytics")

    request = analytics.seal("GET", API + path, headers=ada.headers)
    assert (await analytics.send(request)).status_code == 403


async def test_it_is_ready_with_its_database_and_degraded_without_valkey(
    deployment: Any, valkey_url: str, stores: Any
) -> None:
    async with deployment.replica() as replica:
        ready = await replica.http.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")

        await stores.stop("valkey")
        try:
            degraded = await replica.http.get("/ready")
            assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
        finally:
            await stores.start("valkey")


async def test_every_feature_works_without_valkey(deployment: Any, valkey_url: str, stores: Any) -> None:
    async with deployment.replica() as replica:
        await stores.stop("valkey")
        try:
            ada = await replica.sign_in()
            assert (await replica.refresh(ada.tokens["refresh_token"])).status_code == 200
            for path in ("/profile", "/sessions", "/stats/count", f"/{ada.id}"):
                assert (await replica.http.get(API + path, headers=ada.headers)).status_code == 200
            change = {"display_name": "Ada"}
            changed = await replica.http.patch(f"{API}/profile", json=change, headers=ada.headers)
            assert changed.status_code == 200
            public = await replica.http.get(f"{API}/{ada.id}", headers=ada.headers)
            assert public.json()["display_name"] == "Ada"
            assert (await replica.http.delete(f"{API}/profile", headers=ada.headers)).status_code == 204
        finally:
            await stores.start("valkey")


async def test_a_user_above_the_rate_limit_has_to_wait_and_others_do_not(deployment: Any, valkey_url: str) -> None:
    async with deployment.replica(user_rate=2) as replica:
        ada, bob = await replica.sign_in(), await replica.sign_in()
        responses = [await replica.profile(ada) for _ in range(8)]

        refused = [response for response in responses if response.status_code == 429]
        assert 3 <= len(refused) <= 4
        assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
        assert (await replica.profile(bob)).status_code == 200


async def test_requests_fail_with_a_time_to_wait_while_the_database_restarts_and_succeed_afterwards(
    deployment: Any, stores: Any, valkey_url: str
) -> None:
    async with deployment.replica() as replica:
        ada = await replica.sign_in()
        await stores.stop("postgres")
        try:
            for response in (await replica.profile(ada), await replica.log_in(ada.username), await replica.register()):
                assert response.status_code == 503
                assert response.headers["content-type"] == "application/problem+json"
                assert "retry-after" in response.headers
            assert (await replica.http.get("/ready")).status_code == 503
            assert (await replica.http.get("/health")).status_code == 200
        finally:
            await stores.start("postgres")
        assert (await replica.profile(ada)).status_code == 200
        assert (await replica.log_in(ada.username)).status_code == 200


async def test_on_a_read_only_database_reads_go_on_and_writes_have_to_wait(deployment: Any, valkey_url: str) -> None:
    async with deployment.replica() as replica:
        ada = await replica.sign_in()
        async with operator_of(deployment) as (operator, name):
            await operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            await operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
                name,
            )
            try:
                for response in (await replica.log_in(ada.username), await replica.register()):
                    assert response.status_code == 503
                    assert response.headers["content-type"] == "application/problem+json"
                    assert "retry-after" in response.headers
                assert (await replica.profile(ada)).status_code == 200
                ready = await replica.http.get("/ready")
                assert (ready.status_code, ready.json()["checks"]["postgres"]) == (200, "degraded")
                assert "postgres is read-only" in ready.json()["reasons"]
            finally:
                await operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


async def test_a_locked_table_means_503_in_time_and_not_ready(
    deployment: Any, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicekit.storage.postgres.STATEMENT_MILLISECONDS", 1_000)
    monkeypatch.setattr("servicekit.web.health.CHECK_SECONDS", 0.5)
    async with deployment.replica() as replica:
        ada = await replica.sign_in()
        async with operator_of(deployment) as (operator, _), operator.transaction():
            await operator.execute("LOCK TABLE users_read IN ACCESS EXCLUSIVE MODE")
            response = await replica.profile(ada)
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert (await replica.http.get("/ready")).status_code == 503
        assert (await replica.profile(ada)).status_code == 200


@asynccontextmanager
async def operator_of(deployment: Any) -> AsyncIterator[tuple[Any, str]]:
    """Connect to the service's database as an operator does; give the connection and the database's name."""
    url = deployment.settings.database_url.get_secret_value().replace("+asyncpg", "")
    connection = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
    try:
        yield connection, await connection.fetchval("SELECT current_database()")
    finally:
        await connection.close()


async def test_it_starts_without_its_stores_and_serves_when_they_are_back(
    deployment: Any, stores: Any, valkey_url: str
) -> None:
    await stores.stop("postgres")
    await stores.stop("valkey")
    try:
        async with deployment.replica() as replica:
            assert (await replica.http.get("/ready")).status_code == 503
            await stores.start("postgres")
            await stores.start("valkey")
            ada = await replica.sign_in()
            assert (await replica.profile(ada)).status_code == 200
    finally:
        await stores.start("postgres")
        await stores.start("valkey")


def _settings(tmp_path: Path, **changes: Any) -> Settings:
    values = {
        "service_name": "user",
        "database_url": SecretStr("postgresql+asyncpg://nobody@127.0.0.1:1/nothing"),
        "valkey_url": SecretStr("redis://127.0.0.1:1/0"),
        "service_keys_dir": tmp_path,
        "jwt_keys_dir": tmp_path,
        "fingerprint_secret": SecretStr("f" * 32),
    }
    return Settings(**(values | changes))


async def test_creating_the_application_connects_to_nothing(tmp_path: Path) -> None:
    ensure_signing_key(tmp_path)
    app = create_app(_settings(tmp_path))

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://user") as http:
        assert (await http.get("/health")).json()["service"] == "user"


def test_without_signing_keys_the_service_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="current"):
        create_app(_settings(tmp_path))


def test_no_secret_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "VALKEY_URL", "FINGERPRINT_SECRET"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv("SERVICE_NAME", "user")

    with pytest.raises(ValidationError) as missing:
        Settings()  # type: ignore[call-arg]

    assert {"database_url", "valkey_url", "fingerprint_secret", "jwt_keys_dir"} <= {
        error["loc"][0] for error in missing.value.errors()
    }
