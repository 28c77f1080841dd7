"""Which passwords are accepted."""

import pytest

from user_service.passwords.rules import check_new_password, common_passwords


@pytest.mark.parametrize(
    "password",
    ["x1y2z3w4", "correct horse battery staple", "ünïcödé!", "密码密码密码密码", "8 spaces", "a\x00bcdefgh", "x" * 128],
)
def test_a_long_and_uncommon_text_is_accepted(password: str) -> None:
    assert check_new_password(password) == password


@pytest.mark.parametrize("password", ["", "seven77", "x" * 129, "e\u0301" * 7])
def test_other_lengths_than_8_to_128_characters_are_refused(password: str) -> None:
    with pytest.raises(ValueError, match="8 to 128 characters"):
        check_new_password(password)


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "PASSWORD",
        "Password1!",
        "P@ssw0rd",
        "12345678",
        "1234567890",
        "11111111",
        "qwertyuiop",
        "1q2w3e4r",
        "iloveyou",
        "sunshine1",
        "letmein123",
        "welcome2026",
        "Admin@123",
        "football",
        "trustno1",
    ],
)
def test_a_common_password_is_refused_in_any_case(password: str) -> None:
    with pytest.raises(ValueError, match="most common"):
        check_new_password(password)


def test_two_unicode_forms_of_a_password_are_equal() -> None:
    assert check_new_password("cafe\u0301 au lait") == check_new_password("caf\u00e9 au lait")


def test_the_list_holds_thousands_of_passwords_that_are_long_enough() -> None:
    entries = common_passwords()

    assert len(entries) > 5_000
    assert all(8 <= len(entry) <= 128 and entry == entry.casefold().strip() for entry in entries)
