"""Which conditional headers are read, and which are malformed."""

import pytest

from servicekit.web.entity_tags import EntityTags, MalformedCondition, parse_entity_tags


@pytest.mark.parametrize(
    ("values", "strong", "weak"),
    [
        (['"a"'], {"a"}, set()),
        (['W/"a"'], set(), {"a"}),
        (['"a", W/"b"', '"c"'], {"a", "c"}, {"b"}),
        ([' ,\t"a" ,, "b",'], {"a", "b"}, set()),
        (['""'], {""}, set()),
        (['"a,b"'], {"a,b"}, set()),
        (['"*"'], {"*"}, set()),
        (['"\xe9"'], {"\xe9"}, set()),
        (['"a\\"'], {"a\\"}, set()),
    ],
)
def test_a_list_of_tags_is_read(values: list[str], strong: set[str], weak: set[str]) -> None:
    assert parse_entity_tags("If-Match", values) == EntityTags(frozenset(strong), frozenset(weak))


def test_a_star_names_every_tag_and_no_header_is_no_condition() -> None:
    assert parse_entity_tags("If-Match", [" * "]) == EntityTags(any=True)
    assert parse_entity_tags("If-Match", []) is None


@pytest.mark.parametrize(
    "values",
    [
        ["a"],
        ["7-2"],
        ["W/7-2"],
        ["'a'"],
        ['"a'],
        ['a"'],
        ['"a" "b"'],
        ['"a";"b"'],
        ['w/"a"'],
        ['W/ "a"'],
        ['"a", *'],
        ["*", "*"],
        ["**"],
        ['"a b"'],
        ['"a\x7f"'],
        ['"a"', "b"],
        [""],
        [","],
        ["“a”"],
    ],
)
def test_what_is_not_a_list_of_quoted_tags_is_refused_with_a_word_on_quoting(values: list[str]) -> None:
    with pytest.raises(MalformedCondition) as refusal:
        parse_entity_tags("If-None-Match", values)

    assert refusal.value.status == 400
    assert "If-None-Match" in refusal.value.detail
    assert "double quotes" in refusal.value.detail


@pytest.mark.parametrize("text", ['"1",' * 20_000 + '"', ", " * 40_000 + "x", 'W/"' * 20_000])
def test_a_long_header_is_refused_without_backtracking(text: str) -> None:
    with pytest.raises(MalformedCondition):
        parse_entity_tags("If-Match", [text])


def test_a_weak_tag_matches_weakly_only() -> None:
    tags = EntityTags(strong=frozenset({"a"}), weak=frozenset({"b"}))

    assert [tags.has(tag) for tag in "abc"] == [True, True, False]
    assert [tags.has_strong(tag) for tag in "abc"] == [True, False, False]
