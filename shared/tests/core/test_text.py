"""Which characters of a text are unsafe to show."""

import pytest

from servicekit.core.text import BIDI_CONTROLS, has_unprintable


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
