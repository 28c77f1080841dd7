"""What an API key looks like, and what of it is stored."""

import re
from uuid import UUID, uuid4

import pytest

from user_service.api_keys.rules import KeyCredentials, digest, granted_scopes, new_secret, parse_credentials

KEY = UUID("01990000-0000-7000-8000-000000000001")
SECRET = new_secret(KEY)


def test_a_secret_names_its_key_and_has_256_random_bits_and_a_checksum() -> None:
    assert re.fullmatch(rf"bp_{KEY}_[0-9a-f]{{72}}", SECRET)
    assert len({new_secret(KEY) for _ in range(100)}) == 100
    assert parse_credentials(KeyCredentials(str(KEY), SECRET)) == (KEY, digest(KEY, SECRET))


@pytest.mark.parametrize("spelling", [KEY.hex, str(KEY).upper()], ids=["without dashes", "in capitals"])
def test_the_id_of_a_key_may_be_spelt_in_any_way(spelling: str) -> None:
    assert parse_credentials(KeyCredentials(spelling, SECRET)) is not None


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        (str(uuid4()), SECRET),
        ("not an id", SECRET),
        (str(KEY), SECRET[:-1]),
        (str(KEY), SECRET + "0"),
        (str(KEY), SECRET[:-1] + ("0" if SECRET[-1] != "0" else "1")),
        (str(KEY), SECRET.replace("bp_", "xx_")),
        (str(KEY), SECRET.upper()),
        (str(KEY), SECRET.partition("_")[2].partition("_")[2]),
        (str(KEY), "bp_"),
        (str(KEY), f"bp_{KEY}_{'ä' * 72}"),
    ],
    ids=[
        "another key's",
        "no id",
        "too short",
        "too long",
        "a wrong checksum",
        "another prefix",
        "in capitals",
        "without prefix",
        "a prefix alone",
        "not in ASCII",
    ],
)
def test_another_text_is_no_secret_of_the_key(client_id: str, secret: str) -> None:
    assert parse_credentials(KeyCredentials(client_id, secret)) is None


def test_a_stored_hash_proves_the_secret_of_its_own_key_alone() -> None:
    assert digest(KEY, SECRET) != digest(uuid4(), SECRET)


def test_no_secret_is_shown_in_a_log() -> None:
    assert SECRET not in repr(KeyCredentials(str(KEY), SECRET))


@pytest.mark.parametrize(
    ("requested", "granted"),
    [
        (None, ["notes:read", "assets:read"]),
        ("assets:read", ["assets:read"]),
        ("assets:read notes:read assets:read", ["notes:read", "assets:read"]),
        ("notes:read notes:write", None),
        ("notes:*", None),
        (" ", None),
    ],
    ids=["nothing", "a part", "all, twice", "more", "a pattern", "spaces"],
)
def test_a_token_has_the_scopes_that_are_asked_for_and_never_more(
    requested: str | None, granted: list[str] | None
) -> None:
    assert granted_scopes(["notes:read", "assets:read"], requested) == granted
