"""Splits texts into search terms: words without case, accents, punctuation and invisible characters.

Words are those of Unicode (UAX #29), in parts: `amour` finds `l'amour`. A script without spaces between words has a
part for each character with its marks. Neighbouring parts have a term of their own as a pair, so that `1.2` does not
find `2.1`.
"""

import re
import unicodedata
import zlib
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import regex

FORM: Final = "!2"
"""Names the rules by which the terms of a note were made. Change both together: `reindexing` makes all terms anew."""

MAX_TERMS: Final = 20_000
"""The number of different parts of words by which one note is found. A long novel has fewer."""

MAX_TERM_LENGTH: Final = 64
"""Further characters of a word are ignored."""

PAIRS: Final = 8192
"""The number of terms for pairs. Different pairs may share one, so that a long text keeps all of its own."""

# Compatibility forms may have 18 characters for one. No text of a language grows to this size.
MAX_FOLDED: Final = 2 * 1024 * 1024

# What belongs to no word, though the letters and digits for which it stands would.
_SYMBOL: Final = regex.compile(r"(?V1)[[\p{S}\p{No}]--[\p{ASCII}\p{WB=ALetter}]]")
# Normalisation takes quadratic time on a run of marks. UAX #15 allows a stream-safe text 30 of them.
_TOO_MANY_MARKS: Final = regex.compile(r"(\p{M}{30})\p{M}+")
# A long text is folded in pieces, so that no step holds the interpreter for long. A piece ends where no character
# combines with the next one: before a space, or before anything but marks and parts of Hangul syllables.
_PIECE: Final = regex.compile(
    r"(?s).{1,16384}(?=\s|\Z)|.{1,16384}(?![\p{M}\u1160-\u11ff\u3130-\u318f\uff9e-\uffdc])|.{1,16384}"
)

# A text is split by its shape, in which a letter stands for the class of each character. Later classes take precedence.
# Letters without word breaks are those of scripts without spaces. Hangul joins them, because particles follow Korean
# words without a space, and so do letters of line-breaking classes AK and AS (Balinese, Javanese, and others).
_CLASSES: Final = {
    "l": r"\p{L}",
    "n": r"\p{N}",
    "u": r"[\p{L}\p{N}]--[[\p{WB=ALetter}\p{WB=Hebrew_Letter}\p{WB=Numeric}]--[\p{Hangul}\p{lb=AK}\p{lb=AS}]]",
    "h": r"\p{WB=Hebrew_Letter}",
    "m": r"\p{M}",
    "_": r"\p{WB=ExtendNumLet}",
    ":": r"\p{WB=MidLetter}",
    ";": r"\p{WB=MidNum}",
    ".": r"\p{WB=MidNumLet}'",
    '"': r"\"",
    "\n": r"\n",
}
# All letters and marks stand before this one.
_CODE_POINTS: Final = 0x35000
# Joined parts of a word are rules WB6, WB7, WB7b and WB11 to WB13b. A word may go on after a line break where a script
# has no spaces.
_RUN: Final = re.compile(
    r"u(?:\n?[um]++)*+"
    r'|[lhn][lhnm]*+((?:(?:_++|(?<=[lhm])[:.](?=[lh])|(?<=n)[;.](?=n)|(?<=h)"(?=h))[lhn][lhnm]*+)++)?+'
)
_PART: Final = re.compile(r"um*+|[lhn][lhnm]*+")
# The same for ASCII, whose shape is the text itself.
_ASCII_RUN: Final = re.compile(
    r"[a-z0-9]++((?:(?:_++|(?<=[a-z])[:.'](?=[a-z])|(?<=[0-9])[,;.'](?=[0-9]))[a-z0-9]++)++)?+"
)
_ASCII_PART: Final = re.compile(r"[a-z0-9]++")


def search_terms(*texts: str) -> list[str]:
    """Return the terms that find the texts: at most `MAX_TERMS` parts of words in their order, and `PAIRS` pairs."""
    return query_terms(*texts, *map(_beside_symbols, texts))


def query_terms(*texts: str) -> list[str]:
    """Return the terms that a text must have to be found."""
    terms: dict[str, None] = {}
    pairs: dict[str, None] = {}
    for text in texts:
        for parts in _words(fold(text)):
            terms.update(dict.fromkeys([part[:MAX_TERM_LENGTH] for part in parts]))
            if len(terms) >= MAX_TERMS:
                return [*list(terms)[:MAX_TERMS], *pairs]
            if len(parts) > 1 and len(pairs) < PAIRS:
                pairs.update(dict.fromkeys(map(_pair, dict.fromkeys(pairwise(parts)))))
    return [*terms, *pairs]


def _beside_symbols(text: str) -> str:
    """Return the words that touch a symbol such as ™ or ², without it: folded, it would become a part of the word."""
    symbols = {character for character in set(text) if _SYMBOL.match(character) and fold(character) != character}
    spaces = {ord(symbol): " " for symbol in symbols}
    return " ".join(word.translate(spaces) for word in text.split() if not symbols.isdisjoint(word)) if symbols else ""


def fold(text: str) -> str:
    """Return the text without case, accents and invisible characters: equal for what NFKC_Casefold calls equal."""
    if text.isascii():
        return text.lower()
    visible = _TOO_MANY_MARKS.sub(r"\1", _without(text, _INVISIBLE))
    folded, size = [], 0
    for piece in _PIECE.finditer(visible):
        folded.append(_fold_piece(piece[0]))
        size += len(folded[-1])
        if size > MAX_FOLDED:
            break
    return "".join(folded)


def _fold_piece(text: str) -> str:
    # Definition D146 of the Unicode Standard: a decomposition may hold capitals, as that of ™ does.
    folded = unicodedata.normalize("NFD", text)
    for _ in range(2):
        folded = unicodedata.normalize("NFKD", folded.casefold())
    return unicodedata.normalize("NFC", _without(_without(folded, _INVISIBLE), _ACCENTS))


def _without(text: str, unwanted: frozenset[str]) -> str:
    found = unwanted.intersection(text)
    return text.translate(dict.fromkeys(map(ord, found))) if found else text


def _words(text: str) -> Iterator[list[str]]:
    """Return the parts of each different word, or of each different passage in a script without spaces."""
    shape, run, part = (text, _ASCII_RUN, _ASCII_PART) if text.isascii() else (text.translate(_SHAPES), _RUN, _PART)
    seen: set[str] = set()
    for match in run.finditer(shape):
        start, end = match.span()
        word = text[start:end]
        if word not in seen:
            seen.add(word)
            whole = match.lastindex is None and shape[start] != "u"
            yield [word] if whole else [text[slice(*found.span())] for found in part.finditer(shape, start, end)]


def _is_accent(mark: str) -> bool:
    """Tell accents, vowel points and nuktas from vowel signs, viramas, tone marks and voiced sound marks.

    Without the latter a word is another one. The canonical combining class tells them apart.
    """
    kind = unicodedata.combining(mark)
    is_enclosing = unicodedata.category(mark) == "Me"
    # U+1037 is a tone of Burmese, although it has the class of nuktas.
    return (kind in (1, 7) and mark != "\u1037") or 10 <= kind <= 36 or kind >= 200 or is_enclosing


def _characters(first: int, end: int) -> str:
    """Return all characters of a range, in a quarter of the time that `chr` of each takes."""
    return array("I", range(first, end)).tobytes().decode("utf-32", "surrogatepass")


def _tables() -> tuple[str, frozenset[str], frozenset[str]]:
    """Return the table of shapes, the invisible characters, and the accents."""
    characters = _characters(0, _CODE_POINTS)
    shapes = bytearray(b" " * _CODE_POINTS)
    for shape, members in _CLASSES.items():
        for run in regex.finditer(rf"(?V1)[{members}]+", characters):
            shapes[run.start() : run.end()] = shape.encode() * (run.end() - run.start())
    # What is not seen separates no words: default ignorable and format characters, and strokes that only lengthen a
    # word. Plane 14 holds nothing else.
    further = _characters(0xE0000, 0xE1000)
    invisible = regex.findall(r"[\p{DI}\p{Cf}\u0640\u07fa\u0883-\u0885\u180a]", characters + further)
    accents = filter(_is_accent, regex.findall(r"\p{M}", characters))
    return shapes.decode(), frozenset(invisible), frozenset(accents)


# The shapes are used as a table of translation.
_SHAPES, _INVISIBLE, _ACCENTS = _tables()


def _pair(parts: tuple[str, str]) -> str:
    return f"+{zlib.crc32(' '.join(parts).encode()) % PAIRS:x}"
