"""The rules of refresh tokens."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.exceptions import InvalidTag

from user_service.sessions.refresh_tokens import (
    InvalidRefreshToken,
    digest,
    new_token,
    open_successor,
    seal_successor,
)
from user_service.sessions.rules import GRACE, Outcome, TokenState, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
HOME = "192.0.2.1"
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (TokenState(LATER), Outcome.ROTATE),
        (TokenState(NOW + MOMENT), Outcome.ROTATE),
        (TokenState(NOW), Outcome.EXPIRED),
        (TokenState(LATER, behind=1, used_at=NOW, used_from=HOME), Outcome.REPEAT),
        (TokenState(LATER, behind=1, used_at=NOW - GRACE, used_from=HOME), Outcome.REPEAT),
        (TokenState(LATER, behind=1, used_at=NOW), Outcome.REPEAT),
        (TokenState(LATER, behind=1, used_at=NOW, used_from=HOME, repeated=True), Outcome.REUSED),
        (TokenState(LATER, behind=1, used_at=NOW, repeated=True), Outcome.REUSED),
        (TokenState(LATER, behind=1, used_at=NOW, used_from="203.0.113.9"), Outcome.REUSED),
        (TokenState(LATER, behind=1, used_at=NOW - GRACE - MOMENT), Outcome.REUSED),
        (TokenState(LATER, behind=2, used_at=NOW), Outcome.REUSED),
        (TokenState(LATER, behind=500, used_at=NOW), Outcome.REUSED),
        (TokenState(NOW, behind=1, used_at=NOW), Outcome.EXPIRED),
    ],
)
def test_a_used_token_is_good_once_more_for_its_network_within_the_grace_while_its_successor_is_unused(
    state: TokenState, outcome: Outcome
) -> None:
    assert decide(state, NOW, HOME) is outcome


def test_only_the_used_token_opens_its_successor() -> None:
    used, successor = new_token(), new_token()
    sealed = seal_successor(successor, under=used)

    assert open_successor(sealed, under=used) == successor
    assert successor.encode() not in sealed
    with pytest.raises(InvalidTag):
        open_successor(sealed, under=new_token())


def test_tokens_are_256_random_bits_with_distinct_digests() -> None:
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) == 100
    assert all(len(token) == 43 for token in tokens)
    assert len({digest(token) for token in tokens}) == 100


def test_a_token_has_one_spelling() -> None:
    """43 characters of base64 hold two bits more than 32 bytes, so four texts decode to the same bytes."""
    token = new_token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    refused = 0
    for last in set(alphabet) - {token[-1]}:
        try:
            assert digest(token[:-1] + last) != digest(token)
        except InvalidRefreshToken:
            refused += 1
    # Of the 64 last characters, 16 can end a token. All others would be second spellings.
    assert refused == 48
    for text in ("", "x", token + "=", token + "\n", f" {token}", token[:-1], token * 2, "ä" * 43, "+" * 43):
        with pytest.raises(InvalidRefreshToken):
            digest(text)
