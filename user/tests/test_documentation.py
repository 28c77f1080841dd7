"""The API document, compared with what the routes do."""

from typing import Any

import pytest

API = "/api/v1/users"


async def _document(replica: Any) -> dict[str, Any]:
    response = await replica.http.get("/openapi.json")
    document: dict[str, Any] = response.json()
    return document


async def test_the_limits_of_a_registration_are_documented_and_its_examples_are_valid(replica: Any) -> None:
    schema = (await _document(replica))["components"]["schemas"]["Registration"]
    fields = schema["properties"]
    optional = {"display_name": fields["display_name"]["anyOf"][0]}
    example = {name: field["examples"][0] for name, field in (fields | optional).items()}

    assert (await replica.http.post(f"{API}/register", json=example)).status_code == 201
    name, password = fields["username"], fields["password"]
    assert (name["minLength"], name["maxLength"], name["pattern"]) == (3, 32, "^[A-Za-z0-9_.-]{3,32}$")
    assert (password["minLength"], password["maxLength"]) == (8, 128)
    assert (fields["email"]["format"], fields["email"]["maxLength"]) == ("email", 254)
    assert (optional["display_name"]["minLength"], optional["display_name"]["maxLength"]) == (1, 100)


async def test_a_change_of_the_profile_documents_limits_and_no_defaults(replica: Any) -> None:
    fields = (await _document(replica))["components"]["schemas"]["ProfileChange"]["properties"]

    assert fields["email"]["maxLength"] == 254
    assert not [name for name, field in fields.items() if "default" in field]


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/register", {"409", "413", "422", "429"}),
        ("post", "/login", {"401", "422", "429"}),
        ("post", "/token", {"400", "401", "415"}),
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
async def test_the_errors_of_each_route_are_documented(
    replica: Any, method: str, path: str, statuses: set[str]
) -> None:
    assert statuses < (await _document(replica))["paths"][API + path][method]["responses"].keys()


@pytest.mark.parametrize("word", ["login", "token", "refresh", "logout", "register", "password"])
async def test_a_word_in_a_path_is_not_taken_for_a_user_id(replica: Any, word: str) -> None:
    ada = await replica.sign_in()

    response = await replica.http.get(f"{API}/{word}", headers=ada.headers)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
