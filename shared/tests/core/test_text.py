"""Which characters of a text are unsafe to show, and which texts are one to the eye."""

import random
import unicodedata

import pytest

from servicekit.core.text import BIDI_CONTROLS, has_unprintable, normalize_visible, trim


@pytest.mark.parametrize("character", ["\x00", "\t", "\n", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"])
def test_controls_surrogates_and_separators_are_unprintable(character: str) -> None:
    assert has_unprintable(f"a{character}b")


@pytest.mark.parametrize("text", ["", "a b", "Grüße", "世界", "🎉", "e\u0301", "a\u202eb"])
def test_other_characters_are_printable(text: str) -> None:
    assert not has_unprintable(text)


def test_bidi_controls_are_those_that_change_the_direction_of_text() -> None:
    assert {"\u200f", "\u202e", "\u2066", "\u2069"} < BIDI_CONTROLS
    # Joiners, which emoji and some scripts need.
    assert not {"\u200c", "\u200d"} & BIDI_CONTROLS


@pytest.mark.parametrize(
    "text",
    [
        "Ada O\u2019Brien",
        "مُحَمَّد",
        "שָׁלוֹם",
        "می\u200cخواهم",
        "نَمی\u200cشَوَد",
        "श्री",
        "क्\u200dष",
        "র\u200d্যাব",
        "葛\U000e0100飾",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\U0001f469\U0001f3fd\u200d\u2764\ufe0f\u200d\U0001f48b\u200d\U0001f468\U0001f3fb",
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f44d\U0001f3fd",
        "\U0001f1e9\U0001f1ea",
        "1\ufe0f\u20e3",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
    ids=ascii,
)
def test_a_text_keeps_what_its_script_or_emoji_needs(text: str) -> None:
    assert normalize_visible(text, 50) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text",
    [
        " A\u0308da  Bo\n",
        "\u00c4da\u00a0Bo",
        "\u00c4da\u2800\u3000Bo",
        "\u00c4da\u200b Bo",
        "\u00c4da \u3164Bo",
        "\u00c4\u00adda Bo",
        "\u00c4d\u200ca B\u200do",
        "\u00c4da\ufe0f Bo",
        "\u00c4d\u034fa\u2060 Bo",
        "\ufeff\u00c4da \U000e0062\U000e0065Bo",
        "\u00c4da \u115f\uffa0Bo\ufffc",
        "\u00c4da\u180e Bo\U000e0100",
    ],
    ids=ascii,
)
def test_texts_that_look_alike_have_one_form(text: str) -> None:
    assert normalize_visible(text, 50) == "\u00c4da Bo"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \u3000",
        *"\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u115f\u1160\u17b4\u180e\u2061\u2800\u3164\ufe0f\uffa0\ufffc",
        *"\u0301\u05b0\u064b\u0e31\u0903\u20e3",
        "\u0301Ada",
        "\u200b\u0301",
        "\U000e0062\U000e007f",
        "\U0001d159",
        "\ue000",
        "a\x00b",
        "a\u202eb",
        "x" * 51,
    ],
    ids=ascii,
)
def test_a_text_without_visible_characters_of_its_own_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="character"):
        normalize_visible(text, 50)


def test_the_one_form_of_a_text_is_that_of_itself() -> None:
    choose = random.Random(1)
    parts = (
        "a1 \u0301\u200b\u200c\u200d\ufe0f\u20e3क\u094dب\u064e葉\U000e0100\u3164\u1820\u180b❤👩🏽🏴\U000e0067\U000e007f"
    )
    for _ in range(20_000):
        text = "".join(choose.choices(parts, k=choose.randint(1, 7)))
        try:
            form = normalize_visible(text, 50)
        except ValueError:
            continue
        assert normalize_visible(form, 50) == form, ascii(text)


@pytest.mark.parametrize("text", ["a b", " a b\n", "\ufeffa b\u200b", "\u3000\u2060 a b\u00a0\u00ad"], ids=ascii)
def test_what_comes_along_when_a_text_is_copied_is_trimmed(text: str) -> None:
    assert trim(text) == "a b"
