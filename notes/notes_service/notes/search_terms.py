"""The words of a note, by which it is found: without case, accents and punctuation."""

import re
import unicodedata
from typing import Final

MAX_WORDS: Final = 20_000
"""Different words of one note that are found; the first ones. A long novel has fewer."""

MAX_WORD_LENGTH: Final = 64
"""Characters of a word that count."""

# Chinese and Japanese are written without spaces, so there every character is a word.
_UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
# A long text is taken in pieces: none of them keeps other threads waiting, and what comes after enough words is not
# looked at. A piece ends before a space, or within a word that is longer than the piece.
_PIECE: Final = re.compile(r"(?s).{1,16384}(?=\s|\Z)|.{1,16384}")


def words_of(*texts: str) -> list[str]:
    """Return the different words of the texts in their order, `MAX_WORDS` at most."""
    words: dict[str, None] = {}
    for text in texts:
        for piece in _PIECE.finditer(text):
            found = dict.fromkeys(_WORD.findall(_folded(piece[0])))
            words.update(dict.fromkeys(word[:MAX_WORD_LENGTH] for word in found))
            if len(words) >= MAX_WORDS:
                return list(words)[:MAX_WORDS]
    return list(words)


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    # The marks that stand on their own now: accents, vowel points. Looking at each different character once is enough.
    marks = [ord(character) for character in set(decomposed) if unicodedata.combining(character)]
    return decomposed.translate(dict.fromkeys(marks))
