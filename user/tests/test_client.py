"""What is stored of a client."""

import pytest

from user_service.client import readable_user_agent


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("Mozilla/5.0 (X11)", "Mozilla/5.0 (X11)"),
        ("", ""),
        ("a\tb\x00c\x1b[31m\x85d", "a b c [31m d"),
        ("x" * 10_000, "x" * 200),
        ("\u202eevil", "evil"),
    ],
)
def test_a_user_agent_is_shown_as_one_bounded_harmless_line(header: str, shown: str) -> None:
    assert readable_user_agent(header) == shown
