"""The files of a pair alone tell what to do next, wherever the last attempt ended."""

from pathlib import Path

import pytest

from servicekit.core.clock import utc_now
from servicekit.ops.rotation.errors import RotationError
from servicekit.ops.rotation.pairs import Pair, Phase, pairs_below, phase_of
from servicekit.sealing.key_files import KeyFileError, ensure_keys, new_key, pair_document, read_entries, sides
from servicekit.testing.sealed import Pair as Calls

CATALOG = {"a": Calls("a", ("b",)), "b": Calls("b")}


@pytest.mark.parametrize(
    ("caller", "callee", "phase"),
    [
        (["old"], ["old"], Phase.BEGUN),
        (["old"], ["old", "new"], Phase.BEGUN),
        (["old", "new"], ["old"], Phase.BEGUN),
        (["old", "new"], ["old", "new"], Phase.ADDED),
        (["old", "other", "new"], ["other", "old", "new"], Phase.ADDED),
        (["old", "new"], ["new", "old"], Phase.PROMOTED),
        (["new", "old"], ["old", "new"], Phase.PROMOTED),
        (["new", "old"], ["new", "old"], Phase.PROMOTED),
        (["new", "old"], ["new"], Phase.RETIRING),
        (["new"], ["new", "old"], Phase.RETIRING),
        (["new"], ["new"], Phase.DONE),
    ],
)
def test_both_files_together_show_the_phase(caller: list[str], callee: list[str], phase: Phase) -> None:
    assert phase_of(caller, callee, "new") is phase


def _ids(root: Path) -> list[list[str]]:
    return [[entry["id"] for entry in read_entries(path)] for path in sides(root, "a", "b")]


def test_the_steps_change_both_files_and_keep_the_secrets(tmp_path: Path) -> None:
    ensure_keys(tmp_path, CATALOG)
    (old,) = read_entries(sides(tmp_path, "a", "b")[0])
    pair = Pair(tmp_path, "a", "b", "new")

    pair.add()
    assert _ids(tmp_path) == [[old["id"], "new"]] * 2
    pair.promote()
    assert _ids(tmp_path) == [["new", old["id"]]] * 2
    new, still = read_entries(sides(tmp_path, "a", "b")[1])
    assert still == old
    pair.retire()
    assert [read_entries(path) for path in sides(tmp_path, "a", "b")] == [[new]] * 2


def test_sides_that_had_different_keys_hold_all_of_them_until_the_old_ones_retire(tmp_path: Path) -> None:
    ensure_keys(tmp_path, CATALOG)
    caller, callee = sides(tmp_path, "a", "b")
    callee.write_bytes(pair_document("a", "b", [new_key(utc_now(), "elsewhere")]))
    (old,) = read_entries(caller)

    Pair(tmp_path, "a", "b", "new").add()
    assert _ids(tmp_path) == [[old["id"], "elsewhere", "new"]] * 2


def test_one_id_with_two_secrets_stops_the_rotation(tmp_path: Path) -> None:
    ensure_keys(tmp_path, CATALOG)
    caller, callee = sides(tmp_path, "a", "b")
    for path in (caller, callee):
        path.write_bytes(pair_document("a", "b", [new_key(utc_now(), "same")]))
    before = caller.read_bytes(), callee.read_bytes()

    with pytest.raises(KeyFileError, match="same"):
        Pair(tmp_path, "a", "b", "new").add()
    assert (caller.read_bytes(), callee.read_bytes()) == before


def test_a_full_file_is_left_as_it_is(tmp_path: Path) -> None:
    ensure_keys(tmp_path, CATALOG)
    caller, callee = sides(tmp_path, "a", "b")
    content = pair_document("a", "b", [new_key(utc_now(), str(number)) for number in range(16)])
    for path in (caller, callee):
        path.write_bytes(content)

    with pytest.raises(KeyFileError, match="17 keys"):
        Pair(tmp_path, "a", "b", "new").add()
    assert caller.read_bytes() == content


def test_pairs_are_found_by_their_files(tmp_path: Path) -> None:
    with pytest.raises(RotationError, match="make keys"):
        pairs_below(tmp_path)
    ensure_keys(tmp_path, {"a": Calls("a", ("b",)), "b": Calls("b", ("a",)), "alone": Calls("alone")})
    assert pairs_below(tmp_path) == [("a", "b"), ("b", "a")]
