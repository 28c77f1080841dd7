"""What an account's fields may hold, and in which form names and addresses are unique."""

import re
import unicodedata
from enum import StrEnum
from typing import Final

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

from servicekit.core.text import normalize_visible, trim

USERNAME_LENGTH: Final = 32
EMAIL_LENGTH: Final = 254
# RFC 5321, section 4.5.3.1.
LOCAL_PART_OCTETS: Final = 64
DOMAIN_OCTETS: Final = 255
DISPLAY_NAME_LENGTH: Final = 100

USERNAME_PATTERN: Final = "^[A-Za-z0-9_.-]{3,32}$"
_USERNAME = re.compile(USERNAME_PATTERN)


class Role(StrEnum):
    """What an account may do."""

    USER = "user"
    ADMIN = "admin"


def check_username(text: str) -> str:
    """Return the name without surrounding space. Raises ValueError unless it has 3 to 32 of `A-Z a-z 0-9 _ . -`."""
    name = trim(text)
    if not _USERNAME.fullmatch(name):
        raise ValueError("3 to 32 characters of A-Z a-z 0-9 _ . -")
    return name


def normalize_email(text: str) -> str:
    """Return a new address normalised by RFC 5321 and 6531, its domain by IDNA 2008. Raises ValueError."""
    found = _validated(text)
    if len(found.local_part.encode()) > LOCAL_PART_OCTETS:
        raise ValueError(f"at most {LOCAL_PART_OCTETS} bytes before the @")
    # That a label has at most 63 octets is a part of IDNA.
    if len(found.ascii_domain) > DOMAIN_OCTETS or len(found.normalized.encode()) > EMAIL_LENGTH:
        raise ValueError(f"at most {EMAIL_LENGTH} bytes")
    return found.normalized


def _validated(text: str) -> ValidatedEmail:
    try:
        # No check of deliverability: with it, a stranger could make this service send DNS queries.
        # Tests use addresses in `.test`, which RFC 2606 reserves for them.
        return validate_email(trim(text), check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise ValueError("not a valid email address") from None


def ascii_email(email: str) -> str:
    """Return the address with its domain in ASCII, for a mail server, unless the part before the @ is not in ASCII."""
    try:
        return _validated(email).ascii_email or email
    except ValueError:
        # Registered before the rules of today.
        return email


def normalize_display_name(text: str) -> str:
    """Return the one form of all names that look like this one. Raises ValueError if it cannot be shown."""
    return normalize_visible(text, DISPLAY_NAME_LENGTH)


def username_key(username: str) -> str:
    """Return the form in which user names are compared: `Ada` and `ada` are the same name."""
    return username.lower()


def email_key(email: str) -> str:
    """Return the form in which normalised addresses are compared.

    RFC 5321, section 2.4, allows the part before the @ to be case-sensitive. No provider makes use of it. In a
    domain, ß and ss are different letters (IDNA 2008), which case folding would not keep apart.
    """
    local, _, domain = email.rpartition("@")
    return f"{local.casefold()}@{domain.lower()}"


def login_keys(username_or_email: str) -> tuple[str | None, str | None]:
    """Return `(username_key, email_key)` of the name or address in a login. At most one of them is set."""
    try:
        if "@" in username_or_email:
            # Addresses that were registered before their length was limited remain valid here.
            return None, email_key(_validated(username_or_email).normalized)
        return username_key(check_username(username_or_email)), None
    except ValueError:
        return None, None


def login_subject(username_or_email: str) -> str:
    """Return what a login is counted by: one text for all spellings, whether or not there is such an account."""
    username, email = login_keys(username_or_email)
    return username or email or unicodedata.normalize("NFKC", trim(username_or_email)).casefold()
