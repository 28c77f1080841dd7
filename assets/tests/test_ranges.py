"""Which bytes a Range header means (RFC 9110, section 14)."""

import random

import pytest

from assets_service.content.ranges import MAX_RANGES, ByteRange, RangeNotSatisfiable, parse_ranges

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        (None, []),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-", [(500, 1000)]),
        ("bytes=-1", [(999, 1000)]),
        ("bytes=-500", [(500, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("bytes=990-99999", [(990, 1000)]),
        # What SDKs send for the rest of a file, and numbers beyond 64 bits.
        ("bytes=0-9223372036854775806", [(0, 1000)]),
        ("bytes=0-9223372036854775807", [(0, 1000)]),
        ("bytes=0-18446744073709551616", [(0, 1000)]),
        ("bytes=5-" + "9" * 5000, [(5, 1000)]),
        ("bytes=-" + "9" * 5000, [(0, 1000)]),
        ("bytes=" + "0" * 5000 + "1-" + "0" * 5000 + "2", [(1, 3)]),
        ("bytes=0-0,99999999999999999999-", [(0, 1)]),
        ("Bytes=0-1", [(0, 2)]),
        ("bytes=0-0, -1", [(0, 1), (999, 1000)]),
        ("bytes=0-0,2000-3000", [(0, 1)]),
        ("bytes=5-9,\t0-1", [(5, 10), (0, 2)]),
        # A Range in an unknown unit is ignored.
        ("items=0-1", []),
        # Together more than the file.
        ("bytes=0-,0-,0-", []),
        ("bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), []),
    ],
)
def test_a_range_header_selects_parts(header: str | None, ranges: list[tuple[int, int]]) -> None:
    assert list(parse_ranges(header, SIZE)) == [ByteRange(*found) for found in ranges]


@pytest.mark.parametrize(
    "header",
    [
        "bytes=1000-",
        "bytes=1000-2000",
        "bytes=-0",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=1",
        "bytes=0-1;2-3",
        "bytes=0-0,x",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=٣-٤",
        "bytes=0x1-2",
        "bytes=99999999999999999999-",
        "bytes=99999999999999999999-99999999999999999998",
        "bytes=10-9",
        "bytes=9-0000000000000000000008",
        "bytes=-00000000000000000000000",
        "bytes= 0 - 1",
    ],
)
def test_ranges_without_bytes_are_refused_with_the_size(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_ranges(header, SIZE)
    assert refused.value.headers["Content-Range"] == f"bytes */{SIZE}"


def test_no_header_selects_bytes_outside_the_file() -> None:
    generator = random.Random(11)
    for _ in range(3000):
        spec = "".join(generator.choices("0123456789-, ", k=generator.randrange(0, 20)))
        try:
            ranges = parse_ranges(f"bytes={spec}", SIZE)
        except RangeNotSatisfiable:
            continue
        assert all(0 <= found.start < found.stop <= SIZE for found in ranges)
