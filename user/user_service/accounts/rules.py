"""What an account's fields may hold, and in which form names and addresses are unique."""

import re
from enum import StrEnum
from typing import Final

from email_validator import EmailNotValidError, validate_email

from servicekit.core.text import normalize_visible

USERNAME_LENGTH: Final = 32
EMAIL_LENGTH: Final = 254
DISPLAY_NAME_LENGTH: Final = 100

USERNAME_PATTERN: Final = "^[A-Za-z0-9_.-]{3,32}$"
_USERNAME = re.compile(USERNAME_PATTERN)


class Role(StrEnum):
    """What an account may do."""

    USER = "user"
    ADMIN = "admin"


def check_username(text: str) -> str:
    """Return the name. Raises ValueError unless it has 3 to 32 characters of `A-Z a-z 0-9 _ . -`."""
    if not _USERNAME.fullmatch(text):
        raise ValueError("3 to 32 characters of A-Z a-z 0-9 _ . -")
    return text


def normalize_email(text: str) -> str:
    """Return the address normalised by RFC 5321 and 6531, its domain in lower case. Raises ValueError."""
    try:
        # No check of deliverability: with it, a stranger could make this service send DNS queries.
        # Tests use addresses in `.test`, which RFC 2606 reserves for them.
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise ValueError("not a valid email address") from None
    if len(found.normalized) > EMAIL_LENGTH:
        raise ValueError(f"at most {EMAIL_LENGTH} characters")
    return found.normalized


def normalize_display_name(text: str) -> str:
    """Return the one form of all names that look like this one. Raises ValueError if it cannot be shown."""
    return normalize_visible(text, DISPLAY_NAME_LENGTH)


def username_key(username: str) -> str:
    """Return the form in which user names are compared: `Ada` and `ada` are the same name."""
    return username.lower()


def email_key(email: str) -> str:
    """Return the form in which normalised addresses are compared.

    RFC 5321, section 2.4, allows the part before the @ to be case-sensitive. No provider makes use of it.
    """
    return email.casefold()


def login_keys(username_or_email: str) -> tuple[str | None, str | None]:
    """Return `(username_key, email_key)` of the name or address in a login. At most one of them is set."""
    try:
        if "@" in username_or_email:
            return None, email_key(normalize_email(username_or_email))
        return username_key(check_username(username_or_email)), None
    except ValueError:
        return None, None
