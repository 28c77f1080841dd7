"""Registration: which fields it accepts, unique names, and repeated requests."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from user_service.app import create_app

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"


def _body(name: str, **fields: Any) -> dict[str, Any]:
    return {"username": name, "email": f"{name.lower()}@example.com", "password": PASSWORD, **fields}


async def _count(replica: Any) -> int:
    return int((await replica.http.get(f"{API}/stats/count")).json()["count"])


async def test_a_new_account_is_returned_with_its_location_and_without_its_password(replica: Any) -> None:
    response = await replica.register("Ada.L-1_x", email="Ada@Example.COM")

    assert response.status_code == 201
    account = response.json()
    assert account.keys() == {"id", "username", "email", "email_verified", "display_name", "role", "created_at"}
    assert (account["username"], account["email"], account["role"]) == ("Ada.L-1_x", "Ada@example.com", "user")
    assert account["display_name"] == "Ada.L-1_x"
    assert account["created_at"].endswith("Z")
    assert UUID(account["id"]).version == 7
    assert response.headers["location"] == f"{API}/{account['id']}"
    assert PASSWORD not in response.text


async def test_a_display_name_does_not_pass_for_another(replica: Any) -> None:
    response = await replica.register(display_name="Ada\u200b\u00a0Love\u00adlace\u3164")
    assert response.json()["display_name"] == "Ada Lovelace"


async def test_a_display_name_is_stored_in_nfc_without_surrounding_space(replica: Any) -> None:
    response = await replica.register(display_name="  Zoe\u0308 Müller 👩\u200d🔬 ")

    assert response.json()["display_name"] == "Zo\u00eb Müller 👩\u200d🔬"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "ab"),
        ("username", "a" * 33),
        ("username", "with space"),
        ("username", "nul\x00byte"),
        ("username", "li\nne"),
        ("username", "аdmin"),  # The first letter is Cyrillic.
        ("username", "a@b.example"),
        ("username", "x" * 10_000),
        ("username", None),
        ("username", 12345),
        ("username", ["ada"]),
        ("email", "not-an-address"),
        ("email", "a@"),
        ("email", "nul\x00@example.com"),
        ("email", "a@example.com\r\nBcc: b@example.com"),
        ("email", "a" * 300 + "@example.com"),
        ("email", "x" * 10_000 + "@example.com"),
        ("email", '"quoted words"@example.com'),
        ("display_name", ""),
        ("display_name", "   "),
        ("display_name", "x" * 101),
        ("display_name", "x" * 10_000),
        ("display_name", "nul\x00byte"),
        ("display_name", "tab\tstop"),
        ("display_name", "line\u2028break"),
        ("display_name", "evil\u202etxt.exe"),
        ("display_name", "\u3164"),
        ("display_name", "\u200b\u2800"),
        ("display_name", "\u0301"),
        ("email", "a" * 65 + "@example.com"),
        ("email", "a@" + "b" * 64 + ".example"),
        ("password", "short-7"),
        ("password", "x" * 129),
        ("password", "x" * 10_000),
        ("password", "password123"),
        ("password", "PassWord123"),
        ("role", "admin"),
        ("id", "01a217b0-14b1-73f7-8128-d75b34cf33e9"),
        ("is_admin", True),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named_and_its_value_not_repeated(
    replica: Any, field: str, value: Any
) -> None:
    before = await _count(replica)
    response = await replica.http.post(f"{API}/register", json=_body(f"u{uuid4().hex[:8]}") | {field: value})

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in response.json()["errors"]] == [f"body.{field}"]
    assert len(response.text) < 1_000
    assert await _count(replica) == before


@pytest.mark.parametrize("body", ["{", "[]", "null", '"text"', "[" * 10_000, b"\xff\xfe", '{"username": "\\ud800"}'])
async def test_a_body_other_than_an_object_is_refused(replica: Any, body: str | bytes) -> None:
    response = await replica.http.post(f"{API}/register", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "evil", ["x'; DROP TABLE users; --", "' OR '1'='1", "\\'; SELECT pg_sleep(9) --", "%", "{{7*7}}"]
)
async def test_sql_in_a_display_name_is_plain_text(replica: Any, evil: str) -> None:
    signed_in = await replica.sign_in(display_name=evil)

    assert (await replica.profile(signed_in)).json()["display_name"] == evil
    assert (await replica.log_in(evil)).status_code == 401
    assert (await replica.profile(signed_in)).status_code == 200


@pytest.mark.parametrize(
    ("second", "field"),
    [
        ({"username": "TAKEN-name"}, "username"),
        ({"email": "taken-NAME@EXAMPLE.com"}, "email"),
    ],
)
async def test_a_name_or_an_address_is_taken_in_any_case_and_the_problem_says_which(
    replica: Any, second: dict[str, str], field: str
) -> None:
    await replica.register("Taken-Name")

    response = await replica.http.post(f"{API}/register", json=_body(f"u{uuid4().hex[:8]}") | second)

    assert response.status_code == 409
    assert [error["field"] for error in response.json()["errors"]] == [f"body.{field}"]


@pytest.mark.parametrize("same", ["username", "email"])
async def test_eight_concurrent_registrations_over_two_replicas_make_one_account(
    replicas: Any, database: Any, same: str
) -> None:
    shared = f"u{uuid4().hex[:8]}"
    bodies = [_body(f"u{uuid4().hex[:8]}") | _only(same, shared, number) for number in range(8)]

    responses = await asyncio.gather(
        *(replicas[number % 2].http.post(f"{API}/register", json=body) for number, body in enumerate(bodies))
    )

    assert Counter(response.status_code for response in responses) == {201: 1, 409: 7}
    async with database.connect() as connection:
        for table in ("users", "users_read"):
            found = await connection.scalar(
                text(f"SELECT count(*) FROM {table} WHERE lower(username) = :name OR email = :email"),
                {"name": shared, "email": f"{shared}@example.com"},
            )
            assert found == 1


def _only(field: str, shared: str, number: int) -> dict[str, str]:
    # The same name in changing case, or the same address.
    if field == "username":
        return {"username": shared.upper() if number % 2 else shared}
    return {"email": f"{shared}@example.com"}


async def test_a_repeated_request_gets_the_stored_response_from_any_replica(replicas: Any) -> None:
    body, headers = _body(f"u{uuid4().hex[:8]}"), {"Idempotency-Key": uuid4().hex}
    first = await replicas[0].http.post(f"{API}/register", json=body, headers=headers)

    second = await replicas[1].http.post(f"{API}/register", json=body, headers=headers)

    assert second.status_code == 201
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert second.json() == first.json()


async def test_equal_concurrent_requests_with_one_key_make_one_account(replicas: Any) -> None:
    body, headers = _body(f"u{uuid4().hex[:8]}"), {"Idempotency-Key": uuid4().hex}
    before = await _count(replicas[0])

    responses = await asyncio.gather(
        *(replicas[number % 2].http.post(f"{API}/register", json=body, headers=headers) for number in range(8))
    )

    assert {response.status_code for response in responses} <= {201, 409}
    created = [response.json()["id"] for response in responses if response.status_code == 201]
    assert len(set(created)) == 1
    assert all("retry-after" in response.headers for response in responses if response.status_code == 409)
    assert await _count(replicas[0]) == before + 1


@pytest.mark.parametrize("change", [{"display_name": "Other"}, {"username": "other-name"}, {"password": "p" * 20}])
async def test_a_key_with_another_body_for_the_same_address_is_refused(replica: Any, change: dict[str, str]) -> None:
    body, headers = _body(f"u{uuid4().hex[:8]}"), {"Idempotency-Key": uuid4().hex}
    await replica.http.post(f"{API}/register", json=body, headers=headers)

    response = await replica.http.post(f"{API}/register", json=body | change, headers=headers)

    assert response.status_code == 422


async def test_strangers_may_choose_the_same_key(replicas: Any) -> None:
    headers = {"Idempotency-Key": "1"}
    bodies = [_body(f"u{uuid4().hex[:8]}") for _ in range(3)]

    responses = await asyncio.gather(
        *(
            replicas[number % 2].http.post(f"{API}/register", json=bodies[number % 3], headers=headers)
            for number in range(12)
        )
    )

    assert {response.status_code for response in responses} <= {201, 409}
    created = {response.json()["id"] for response in responses if response.status_code == 201}
    assert len(created) == 3
    # Another spelling of the address is another body for the same address.
    again = bodies[0] | {"email": bodies[0]["email"].upper()}
    assert (await replicas[0].http.post(f"{API}/register", json=again, headers=headers)).status_code == 422


async def test_a_name_is_trimmed_at_registration_and_login_alike(replica: Any) -> None:
    name = f"u{uuid4().hex[:8]}"
    body = _body(name) | {"username": f" {name}\u200b ", "email": f" {name}@FA\u0308\u00df.example\n"}
    account = (await replica.http.post(f"{API}/register", json=body)).json()

    assert (account["username"], account["email"]) == (name, f"{name}@f\u00e4\u00df.example")
    for typed in (f"{name} ", f"\ufeff{name.upper()}", f"{name}@xn--f-qfao.example ", f" {name}@f\u00e4\u00df.example"):
        assert (await replica.log_in(typed)).status_code == 200
    assert (await replica.log_in(f"{name}@f\u00e4ss.example")).status_code == 401
    assert (await replica.register(f"{name}2", email=f"{name}@f\u00e4ss.example")).status_code == 201
    assert (await replica.register(f"{name}3", email=f"{name}@xn--f-qfao.example")).status_code == 409


async def test_a_refused_registration_leaves_its_key_free(replica: Any) -> None:
    taken = (await replica.register()).json()["username"]
    headers = {"Idempotency-Key": uuid4().hex}
    refused = await replica.http.post(f"{API}/register", json=_body(taken), headers=headers)
    assert refused.status_code == 409

    again = await replica.http.post(f"{API}/register", json=_body(f"u{uuid4().hex[:8]}"), headers=headers)
    assert again.status_code == 201


async def test_no_stored_response_holds_the_password_or_its_hash(replica: Any, database: Any) -> None:
    body = _body(f"u{uuid4().hex[:8]}", password="a password that is nowhere")
    await replica.http.post(f"{API}/register", json=body, headers={"Idempotency-Key": uuid4().hex})

    async with database.connect() as connection:
        dump = str((await connection.execute(text("SELECT body, headers FROM idempotency_keys"))).all())
        stored = await connection.scalar(
            text("SELECT password_hash FROM users WHERE username = :name"), {"name": body["username"]}
        )
    assert "a password that is nowhere" not in dump
    assert "argon2" not in dump
    assert stored.startswith("$argon2id$")


async def test_passwords_are_hashed_at_the_cost_that_we_promise(
    deployment: Any, valkey_url: str, database: Any
) -> None:
    """All other tests run the service with cheap hashes."""
    async with replace(deployment, create_app=create_app).replica() as replica:
        ada = await replica.sign_in()

    async with database.connect() as connection:
        stored = await connection.scalar(text("SELECT password_hash FROM users WHERE id = :id"), {"id": ada.id})
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_another_service_registers_by_a_sealed_request_with_a_key_of_its_own_scope(replica: Any) -> None:
    analytics = replica.service("analytics")
    body, headers = _body(f"u{uuid4().hex[:8]}"), {"idempotency-key": uuid4().hex}

    response = await analytics.call("POST", f"{API}/register", json=body, headers=headers)

    assert response.status == 201
    assert response.json()["username"] == body["username"]
    # The same key of another caller is another key.
    plain = await replica.http.post(
        f"{API}/register", json=_body(f"u{uuid4().hex[:8]}"), headers={"Idempotency-Key": headers["idempotency-key"]}
    )
    assert plain.status_code == 201
