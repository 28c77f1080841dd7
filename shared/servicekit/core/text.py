"""Characters that make a text of a user unsafe to show, and the one form of a short text that is shown to others."""

import unicodedata
from typing import Final

import regex

# Control characters, lone surrogates, line and paragraph separators.
_UNPRINTABLE_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Marks that change the direction of the text around them (UAX #9): with them `exe.gpj` is shown as `jpg.exe`.
BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# Spaces, and symbols that look like one.
_BLANK: Final = regex.compile(r"[\p{Zs}\u2800\U0001d159\U00013441\U00013442]+")
# Invisible characters that change what is seen, where they stand:
_IN_PLACE: Final = (
    # a flag of a region: the black flag, its code in tag characters, and the end of the code;
    r"\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"
    # a keycap; an emoji shown as text or as a picture; parts of one emoji;
    r"|[0-9#*][\ufe0e\ufe0f](?=\u20e3)|[\p{Emoji}--[0-9#*]][\ufe0e\ufe0f]"
    r"|(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}]\ufe0f?)\u200d(?=\p{Extended_Pictographic})"
    # variants of ideographs and of Mongolian letters;
    r"|\p{Han}[\ufe00-\ufe02\U000e0100-\U000e01ef]|\p{Mongolian}[\u180b-\u180d\u180f]"
    # joiners beside a virama, and a non-joiner between letters that are joined without it (RFC 5892, appendix A).
    r"|(?<=\p{ccc=9})[\u200c\u200d]|\u200d(?=\p{ccc=9})"
    r"|(?<=[\p{jt=L}\p{jt=D}]\p{M}*)\u200c(?=\p{M}*[\p{jt=R}\p{jt=D}])"
)
_INVISIBLE: Final = regex.compile(rf"(?V1)({_IN_PLACE})|[\p{{DI}}\ufff9-\ufffc]")
_AROUND: Final = regex.compile(r"\A[\s\p{DI}]+|[\s\p{DI}]+\Z")
_VISIBLE: Final = regex.compile(r"[\p{L}\p{N}\p{P}\p{S}]")


def has_unprintable(text: str) -> bool:
    """Whether the text contains a control character, a lone surrogate or a separator of lines or paragraphs."""
    return any(unicodedata.category(character) in _UNPRINTABLE_CATEGORIES for character in text)


def trim(text: str) -> str:
    """Return the text without spaces and invisible characters around it, which come along when a text is copied."""
    return _AROUND.sub("", text)


def normalize_visible(text: str, max_length: int) -> str:
    """Return the one form of all texts that look like this one: in NFC, with single spaces, nothing invisible in it.

    Raises ValueError if the text cannot be shown on a line of its own, or has more than `max_length` characters.
    """
    text = text.strip()
    if has_unprintable(text) or not BIDI_CONTROLS.isdisjoint(text):
        raise ValueError("control characters are not allowed")
    # What is removed may have kept something else in place.
    shown = unicodedata.normalize("NFC", text)
    while (kept := unicodedata.normalize("NFC", _INVISIBLE.sub(r"\1", shown))) != shown:
        shown = kept
    shown = _BLANK.sub(" ", shown).strip()
    if not _VISIBLE.search(shown):
        raise ValueError("must have visible characters")
    if unicodedata.category(shown[0]).startswith("M"):
        raise ValueError("must not begin with a combining character")
    if len(shown) > max_length:
        raise ValueError(f"1 to {max_length} characters")
    return shown
