"""What /openapi.json tells of the routes, and what they do."""

from typing import Any

import pytest

API = "/api/v1/users"


async def _document(user: Any) -> dict[str, Any]:
    answer = await user.http.get("/openapi.json")
    document: dict[str, Any] = answer.json()
    return document


async def test_the_limits_of_a_registration_are_documented_and_its_examples_are_accepted(user: Any) -> None:
    schema = (await _document(user))["components"]["schemas"]["Registration"]
    fields = schema["properties"]
    optional = {"display_name": fields["display_name"]["anyOf"][0]}
    example = {name: field["examples"][0] for name, field in (fields | optional).items()}

    assert (await user.http.post(f"{API}/register", json=example)).status_code == 201
    name, password = fields["username"], fields["password"]
    assert (name["minLength"], name["maxLength"], name["pattern"]) == (3, 32, "^[A-Za-z0-9_.-]{3,32}$")
    assert (password["minLength"], password["maxLength"]) == (8, 128)
    assert (fields["email"]["format"], fields["email"]["maxLength"]) == ("email", 254)
    assert (optional["display_name"]["minLength"], optional["display_name"]["maxLength"]) == (1, 100)


async def test_a_change_of_the_profile_documents_limits_and_no_defaults(user: Any) -> None:
    fields = (await _document(user))["components"]["schemas"]["ProfileChange"]["properties"]

    assert fields["email"]["maxLength"] == 254
    assert not [name for name, field in fields.items() if "default" in field]


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/register", {"409", "413", "422", "429"}),
        ("post", "/login", {"401", "422", "429"}),
        ("post", "/token", {"400", "401"}),
        ("post", "/refresh", {"401"}),
        ("patch", "/profile", {"401", "409"}),
        ("post", "/password", {"401", "403", "409"}),
        ("get", "", {"401", "403", "422"}),
        ("get", "/{user_id}", {"401", "404"}),
        ("delete", "/{user_id}", {"401", "403", "404"}),
        ("put", "/{user_id}/role", {"401", "403", "404"}),
        ("delete", "/{user_id}/sessions", {"401", "403", "404"}),
        ("delete", "/sessions/{session_id}", {"401", "404"}),
    ],
)
async def test_the_errors_of_each_route_are_documented(user: Any, method: str, path: str, statuses: set[str]) -> None:
    assert statuses < (await _document(user))["paths"][API + path][method]["responses"].keys()


@pytest.mark.parametrize("word", ["login", "token", "refresh", "logout", "register", "password"])
async def test_a_word_in_a_path_is_no_user(user: Any, word: str) -> None:
    ada = await user.sign_in()

    answer = await user.http.get(f"{API}/{word}", headers=ada.headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
