"""Splits texts into search terms: words without case, accents and punctuation."""

import re
import unicodedata
from typing import Final

MAX_TERMS: Final = 20_000
"""The number of different terms by which one note is found. A long novel has fewer."""

MAX_TERM_LENGTH: Final = 64
"""Further characters of a word are ignored."""

# Chinese and Japanese are written without spaces, so every character is a word of its own.
_UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
# A long text is split into pieces, so that no regular expression holds the interpreter for long, and the rest is
# skipped once there are enough terms. A piece ends before a space, or within a word that is longer than the piece.
_PIECE: Final = re.compile(r"(?s).{1,16384}(?=\s|\Z)|.{1,16384}")


def search_terms(*texts: str) -> list[str]:
    """Return the different terms of the texts in their order, `MAX_TERMS` at most."""
    terms: dict[str, None] = {}
    for text in texts:
        for piece in _PIECE.finditer(text):
            found = dict.fromkeys(_WORD.findall(_folded(piece[0])))
            terms.update(dict.fromkeys(word[:MAX_TERM_LENGTH] for word in found))
            if len(terms) >= MAX_TERMS:
                return list(terms)[:MAX_TERMS]
    return list(terms)


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    # After the decomposition, accents and vowel points are characters of their own.
    marks = [ord(character) for character in set(decomposed) if unicodedata.combining(character)]
    return decomposed.translate(dict.fromkeys(marks))
