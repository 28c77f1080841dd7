"""The words of a text, which are its search terms."""

import random
import sys
import unicodedata

import pytest
import regex

from notes_service.notes.search_terms import (
    MAX_FOLDED,
    MAX_TERM_LENGTH,
    MAX_TERMS,
    PAIRS,
    fold,
    query_terms,
    search_terms,
)


def finds(query: str, text: str) -> bool:
    return set(query_terms(query)) <= set(search_terms(text))


def words_of(text: str) -> list[str]:
    return [term for term in query_terms(text) if not term.startswith("+")]


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
        ("مُحَمَّد محمد", ["محمد"]),
        ("漢字かなab", ["漢", "字", "か", "な", "ab"]),
        ("ガ ｶﾞ か", ["ガ", "か"]),
        ("한국", ["한", "국"]),
        ("हिन्दी नदी", ["हिन्दी", "नदी"]),
        ("ภาษา", ["ภ", "า", "ษ"]),
        ("\x00a\x00b$where", ["a", "b", "where"]),
        ("!?-_ \u202e\n", []),
        ("😀 a😀b", ["a", "b"]),
    ],
    ids=ascii,
)
def test_words_have_neither_case_nor_accents_nor_punctuation(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_folding_agrees_with_nfkc_casefold_for_every_code_point() -> None:
    def nfkc_casefold(text: str) -> str:
        for _ in range(3):
            visible = regex.sub(r"\p{DI}", "", text)
            text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible.casefold()).casefold())
        return text

    # Many at once, because one at a time takes half a minute. A line feed combines with nothing.
    for start in range(0, sys.maxunicode + 1, 1024):
        if 0xD800 <= start < 0xE000:
            continue
        text = "\n".join(f"a{chr(code)}" for code in range(start, start + 1024))
        folded = fold(text)
        # Most texts stay as they are, and folding the same text again says nothing.
        for again in {folded, nfkc_casefold(text)} - {text}:
            assert fold(again) == folded, f"U+{start:04X}"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("hello", "Hello™ world"),
        ("hellotm", "HELLO™"),
        ("Hello™", "hello™ world"),
        ("x", "a x² b"),
        ("note", "note¹, note②"),
        ("amour", "l'amour"),
        ("don\u2019t", "don't"),
        ("bar", "foo_bar"),
        ("2.71", "3.14, 2.71"),
        ("हिन्दी", "मैं हिन्दी बोलता हूँ"),
        ("கா", "கா கி"),
        ("ไทย", "ฉันรักประเทศไทยมาก"),
        ("ລາວ", "ຂ້ອຍເວົ້າພາສາລາວໄດ້"),
        ("ខ្មែរ", "ខ្ញុំនិយាយភាសាខ្មែរបាន"),
        ("မြန်မာ", "ကျွန်တော်မြန်မာစကားပြောသည်"),
        ("東京", "私は東京に住んでいます"),
        ("東京", "私は東\n京に"),
        ("カード", "クレジットｶｰﾄﾞ"),
        ("学习", "我们学习中文"),
        ("\U00020bb7野家", "昨日\U00020bb7野家で"),
        ("학교", "학교에 갑니다"),
        ("ꦗꦮ", "ꦧꦱꦗꦮꦲ"),
        ("soft", "so\u00adft"),
        ("so\u200bft", "soft"),
        ("sof\u2060t", "\ufeffsoft"),
        ("كتاب", "كـتـاب"),
        ("مي\u200cخواهم", "ميخواهم"),
        ("heart", "hea\ufe0frt \u200eheart\u200f"),
        ("a\u034fb", "ab"),
    ],
    ids=ascii,
)
def test_a_text_is_found_by_a_part_of_it(query: str, text: str) -> None:
    assert finds(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("हिन्दी", "यह नदी है"),
        ("கா", "கி"),
        ("ক", "কি"),
        ("คุ", "คู ค"),
        ("ข้าว", "ขาว"),
        ("か", "が"),
        ("東京", "京東 東 京"),
        ("ไทย", "ยทไ"),
        ("1.2", "2.1"),
        ("don't", "t don"),
        ("hel", "hello"),
        ("မြန့်", "မြန်"),
    ],
    ids=ascii,
)
def test_a_text_is_not_found_by_another_word(query: str, text: str) -> None:
    assert not finds(query, text)


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
    assert words_of("漢" * 100_000 + "字") == ["漢", "字"]
    assert finds("漢字", "漢" * 100_000 + "字")


def test_a_text_in_a_script_without_spaces_loses_nothing_between_its_pieces() -> None:
    characters = random.Random(1).choices("一二三四五六七八九十가각か\u3099\u0301", k=40_000)
    text = "".join(characters)

    assert set(search_terms(text)) == set(search_terms(*(text[at : at + 100] for at in range(0, 40_000, 50))))


@pytest.mark.parametrize(
    "text",
    [
        "a." * 500_000,
        "a_" * 500_000,
        "漢\n" * 250_000,
        "a" + "\u0323\u0301" * 250_000,
        "\ufdfa" * 340_000,
        "".join(map(chr, range(0x4E00, 0xA000))) * 16,
        "\u200b" * 340_000 + "é",
    ],
    ids=["dots", "underscores", "lines", "marks", "ligatures", "ideographs", "invisible"],
)
def test_the_terms_of_a_hostile_text_are_bounded(text: str) -> None:
    assert len(fold(text)) < MAX_FOLDED + 18 * 16384
    assert len(search_terms(text)) <= MAX_TERMS + PAIRS
