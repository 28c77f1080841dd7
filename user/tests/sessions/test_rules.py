"""The pure rules of refresh tokens and user agents."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.exceptions import InvalidTag

from user_service.sessions.refresh_tokens import (
    NotARefreshToken,
    digest,
    new_token,
    open_successor,
    seal_successor,
)
from user_service.sessions.rules import GRACE, TokenState, Verdict, judge, readable_user_agent

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (TokenState(LATER), Verdict.ROTATE),
        (TokenState(NOW + MOMENT), Verdict.ROTATE),
        (TokenState(NOW), Verdict.EXPIRED),
        (TokenState(LATER, behind=1, used_at=NOW), Verdict.REPEAT),
        (TokenState(LATER, behind=1, used_at=NOW - GRACE), Verdict.REPEAT),
        (TokenState(LATER, behind=1, used_at=NOW - GRACE - MOMENT), Verdict.REUSED),
        (TokenState(LATER, behind=2, used_at=NOW), Verdict.REUSED),
        (TokenState(LATER, behind=500, used_at=NOW), Verdict.REUSED),
        (TokenState(NOW, behind=1, used_at=NOW), Verdict.EXPIRED),
    ],
)
def test_a_used_token_is_good_only_shortly_and_while_nothing_came_after_it(state: TokenState, verdict: Verdict) -> None:
    assert judge(state, NOW) is verdict


def test_only_the_used_token_unseals_its_successor() -> None:
    used, successor = new_token(), new_token()
    sealed = seal_successor(successor, under=used)

    assert open_successor(sealed, under=used) == successor
    assert successor.encode() not in sealed
    with pytest.raises(InvalidTag):
        open_successor(sealed, under=new_token())


def test_tokens_are_256_random_bits_and_stored_as_something_else() -> None:
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) == 100
    assert all(len(token) == 43 for token in tokens)
    assert len({digest(token) for token in tokens}) == 100


def test_a_token_has_one_spelling() -> None:
    """43 characters of base64 hold two bits more than 32 bytes, so others would decode to the same."""
    token = new_token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    refused = 0
    for last in set(alphabet) - {token[-1]}:
        try:
            assert digest(token[:-1] + last) != digest(token)
        except NotARefreshToken:
            refused += 1
    # Of the 64 last characters, 16 end a token; all others would be second spellings.
    assert refused == 48
    for text in ("", "x", token + "=", token + "\n", f" {token}", token[:-1], token * 2, "ä" * 43, "+" * 43):
        with pytest.raises(NotARefreshToken):
            digest(text)


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
