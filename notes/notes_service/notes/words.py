"""The words of a note, by which it is found: without case, accents and punctuation."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import Final

MAX_WORDS: Final = 5_000
"""Different words of one note that are found; the first ones. A long novel has about three times as many."""

MAX_WORD_LENGTH: Final = 64
"""Characters of a word that count."""

# Chinese and Japanese are written without spaces, so there every character is a word.
_UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
# A text of this many characters at once is decomposed; only as much as is needed of a long one.
_PIECE: Final = 16 * 1024
_PIECES: Final = re.compile(rf"(?s).{{1,{_PIECE}}}(?=\W|\Z)|.{{1,{_PIECE}}}")


def words_of(*texts: str) -> list[str]:
    """Return the different words of the texts in their order, `MAX_WORDS` at most."""
    found = (word for text in texts for word in _words(text))
    # A text may repeat its words without end, or have too many: neither is read further than it must be.
    return list(islice(_new_ones(found), MAX_WORDS))


def _new_ones(words: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for word in words:
        if word not in seen:
            seen.add(word)
            yield word


def _words(text: str) -> Iterator[str]:
    for piece in _PIECES.finditer(text):
        for word in _WORD.finditer(_folded(piece[0])):
            yield word[0][:MAX_WORD_LENGTH]


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
