"""Which passwords are accepted: long enough and not among the first that anybody would try.

No composition rules: they make passwords harder to remember, not harder to guess (NIST SP 800-63B, section 5.1.1.2).
"""

import unicodedata
from functools import cache
from importlib import resources
from typing import Final

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 128
# Of the text as it arrives: a character may take several code points before it is normalized.
MAX_INPUT_LENGTH: Final = 512
# What the documentation shows; it is accepted, so that the examples work.
EXAMPLE_PASSWORD: Final = "correct horse battery"
# What the rules come to for characters that are one code point each, for the documentation.
NEW_PASSWORD_SCHEMA: Final = {
    "format": "password",
    "minLength": MIN_LENGTH,
    "maxLength": MAX_LENGTH,
    "examples": [EXAMPLE_PASSWORD],
}


def normalize_password(text: str) -> str:
    """Return the password in Unicode's form NFC, so that one keyboard types what another one did (RFC 8265, 4.2.2)."""
    return unicodedata.normalize("NFC", text)


def check_new_password(text: str) -> str:
    """Return the normalized password. Raises ValueError for one that is too short, too long, or too common."""
    password = normalize_password(text)
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise ValueError(f"{MIN_LENGTH} to {MAX_LENGTH} characters")
    if password.casefold() in common_passwords():
        raise ValueError("this password is among the most common ones")
    return password


@cache
def common_passwords() -> frozenset[str]:
    """Return the passwords that are refused, in lower case."""
    text = resources.files("user_service.passwords").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(text.splitlines())
