"""The command that repeats a request is safe to paste."""

import shlex

import pytest

from console_service.memory.records import Origin, RequestRecord
from console_service.requests.rules import as_curl

HOST = "http://host"


def request(method: str, path: str, user_id: str | None = None) -> RequestRecord:
    return RequestRecord(1, 0, Origin("notes", "notes-1"), method, "", path, 200, 1.0, "r", None, user_id, None)


PATHS = ["/api/v1/notes/7", "/a$(id)", "/a$TOKEN`id`", "/a'; id; '", '/a"$(id)"', "/a\nid"]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_path_of_a_client_is_one_word_without_substitutions(path: str) -> None:
    command = as_curl(request("GET", path), HOST)
    assert shlex.split(command) == ["curl", "-i", f"{HOST}{path}"]
    # Outside of single quotes, a shell would substitute.
    assert "$" not in "".join(command.split("'")[::2])
    assert "`" not in "".join(command.split("'")[::2])


def test_token_and_body_are_for_the_operator() -> None:
    command = as_curl(request("PUT", "/a", "u"), HOST)
    assert command == (
        "curl -i -X PUT -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{}' http://host/a"
    )
    assert shlex.split(as_curl(request("GET;id", "/a"), HOST))[3] == "GET;id"
