"""The ACL of the shared Valkey: what the file says (a real server obeys it in deploy/local/tests/test_stores.py)."""

import hashlib

from opskit.valkey_acl import acl


def line_of(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(f"user {name} "))


def test_the_default_user_is_off_and_the_administrator_has_every_command():
    text = acl("administrators-password", {}, frozenset())
    assert line_of(text, "default") == ["user", "default", "off"]
    assert line_of(text, "administrator")[-3:] == ["~*", "&*", "+@all"]


def test_the_file_holds_the_hashes_of_passwords_and_no_password():
    text = acl("administrators-password", {"notes": "password-of-notes"}, frozenset())
    assert "password-of-notes" not in text
    assert "administrators-password" not in text
    assert "#" + hashlib.sha256(b"password-of-notes").hexdigest() in line_of(text, "notes")


def test_only_the_issuer_of_tokens_writes_ended_sessions():
    text = acl("a", {"user": "u", "notes": "n"}, frozenset({"user"}))
    assert "~sessions:ended*" in line_of(text, "user")
    assert "%R~sessions:ended*" in line_of(text, "notes")
    assert "~sessions:ended*" not in line_of(text, "notes")


def test_a_service_has_its_own_keys_and_no_dangerous_command():
    words = line_of(acl("a", {"notes": "n"}, frozenset()), "notes")
    assert [word for word in words if word.startswith("~")] == ["~notes:*"]
    assert words[-2:] == ["-@admin", "-@dangerous"]
    assert "-@all" in words
    assert "+@all" not in words
    assert "resetchannels" in words
