"""Characters that make a text of a user unsafe to show."""

import unicodedata
from typing import Final

# Control characters, lone surrogates, line and paragraph separators.
_UNPRINTABLE_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Marks that change the direction of the text around them (UAX #9): with them `exe.gpj` is shown as `jpg.exe`.
BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def has_unprintable(text: str) -> bool:
    """Whether the text contains a control character, a lone surrogate or a separator of lines or paragraphs."""
    return any(unicodedata.category(character) in _UNPRINTABLE_CATEGORIES for character in text)
