"""Which passwords are accepted: long enough, and not among the most common ones.

There are no composition rules: they make passwords harder to remember, not to guess (NIST SP 800-63B, 5.1.1.2).
"""

import unicodedata
from functools import cache
from importlib import resources
from typing import Final

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 128
# Before normalisation, a character may take several code points.
MAX_INPUT_LENGTH: Final = 512
# The password in the examples of the documentation.
EXAMPLE_PASSWORD: Final = "correct horse battery"
# The rules as a schema, for the documentation. A schema counts code points, not normalised characters.
NEW_PASSWORD_SCHEMA: Final = {
    "format": "password",
    "minLength": MIN_LENGTH,
    "maxLength": MAX_LENGTH,
    "examples": [EXAMPLE_PASSWORD],
}


def normalize_password(text: str) -> str:
    """Return the password in Unicode's form NFC: keyboards compose characters differently (RFC 8265, 4.2.2)."""
    return unicodedata.normalize("NFC", text)


def check_new_password(text: str) -> str:
    """Return the normalized password. Raises ValueError if it is too short, too long or too common."""
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
