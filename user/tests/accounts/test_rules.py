"""The pure rules of account fields."""

import pytest

from user_service.accounts.rules import (
    DISPLAY_NAME_LENGTH,
    EMAIL_LENGTH,
    USERNAME_LENGTH,
    check_username,
    email_key,
    login_keys,
    login_subject,
    normalize_display_name,
    normalize_email,
    username_key,
)
from user_service.models import User


@pytest.mark.parametrize("name", ["abc", "A" * 32, "a.b-c_9", "..."])
def test_a_user_name_has_3_to_32_harmless_characters(name: str) -> None:
    assert check_username(name) == check_username(f" {name}\n") == name


@pytest.mark.parametrize("name", ["", "ab", "a" * 33, "a b", "ä__", "a\n\n", "a@b", "a/b", "١٢٣"])
def test_other_user_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="3 to 32"):
        check_username(name)


def test_user_names_that_differ_in_case_only_are_one() -> None:
    assert username_key("AdA") == username_key("aDa")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("jo\u0301@example.com", "J\u00d3@example.com"),
        ("a@ドメイン.jp", "a@xn--eckwd4c7c.jp"),
        ("x@faß.example", "x@xn--fa-hia.example"),
        (" x@FA\u0308ß.example\u200b", "X@f\u00e4ß.example"),
        ("a@\uff22.example", "a@b.example"),
        ("a@b\u3002example", "a@b.example"),
    ],
)
def test_addresses_that_reach_one_mailbox_are_one(one: str, other: str) -> None:
    assert email_key(normalize_email(one)) == email_key(normalize_email(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("x@faß.example", "x@fass.example"), ("x@βόλος.example", "x@βόλοσ.example"), ("x@ßß.example", "x@ssß.example")],
)
def test_letters_that_idna_2008_keeps_apart_make_another_domain(one: str, other: str) -> None:
    assert email_key(normalize_email(one)) != email_key(normalize_email(other))


@pytest.mark.parametrize("local", ["a" * 64, "é" * 32])
def test_the_part_before_the_at_has_at_most_64_bytes(local: str) -> None:
    assert normalize_email(f"{local}@b.example").startswith(local)
    with pytest.raises(ValueError, match="64 bytes"):
        normalize_email(f"{local}a@b.example")
    # Such an address may have been registered earlier.
    assert login_keys(f"{local}a@b.example") == (None, f"{local}a@b.example")


@pytest.mark.parametrize(
    "domain", ["b" * 64 + ".example", "ü" * 60 + ".example", ".".join(["b" * 60] * 5), ".".join(["ü" * 30] * 8)]
)
def test_a_domain_and_its_labels_have_the_lengths_of_dns(domain: str) -> None:
    with pytest.raises(ValueError, match=r"not a valid email address|bytes"):
        normalize_email(f"a@{domain}")


@pytest.mark.parametrize(
    "texts",
    [("Ada", " ada\n", "\ufeffADA\u200b"), ("A@faß.example", "a@xn--fa-hia.example "), (" \uff4e o", "n O ")],
    ids=["name", "address", "neither"],
)
def test_all_spellings_of_a_login_count_as_one(texts: tuple[str, ...]) -> None:
    assert len({login_subject(text) for text in texts}) == 1
    assert len({login_keys(text) for text in texts}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "a@",
        "@b.example",
        "a b@example.com",
        "a@b",
        "a@example..com",
        "a@exam\x00ple.com",
        "\ud800@example.com",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid email address"):
        normalize_email(text)


@pytest.mark.parametrize("name", ["Ada", "أَحْمَد", "李雷", "O'Neil <b>", "👩\u200d🚀", "x" * 100])
def test_a_display_name_may_be_what_people_are_called(name: str) -> None:
    assert normalize_display_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " \t ", "x" * 101, "a\x00b", "a\x1bb", "a\x85b", "a\u2029b", "\u202eabc", "a\u2066b"]
)
def test_a_display_name_cannot_disturb_what_stands_around_it(name: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        normalize_display_name(name)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("Ada", ("ada", None)),
        ("ADA@Example.com", (None, "ada@example.com")),
        ("no such name", (None, None)),
        ("nul\x00", (None, None)),
        ("@", (None, None)),
    ],
)
def test_one_logs_in_by_name_or_by_address(text: str, keys: tuple[str | None, str | None]) -> None:
    assert login_keys(text) == keys


@pytest.mark.parametrize(
    ("column", "length"),
    [("username", USERNAME_LENGTH), ("email", EMAIL_LENGTH), ("display_name", DISPLAY_NAME_LENGTH)],
)
def test_a_column_is_as_wide_as_its_rule_allows(column: str, length: int) -> None:
    assert User.__table__.c[column].type.length == length
