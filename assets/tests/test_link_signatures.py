"""A signature belongs to one file, one expiry and one secret."""

from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from assets_service.links.signatures import InvalidLink, LinkSigner
from servicekit.testing.clock import MovableClock

ASSET_ID = uuid4()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def signer(clock: MovableClock) -> LinkSigner:
    return LinkSigner(SecretStr("l" * 32), clock=clock)


def test_a_link_is_valid_for_ten_to_fifteen_minutes(signer: LinkSigner, clock: MovableClock) -> None:
    signed = signer.sign(ASSET_ID)

    clock.advance(minutes=9, seconds=59)
    signer.check(ASSET_ID, str(signed.expires), signed.signature)
    clock.advance(minutes=5, seconds=1)
    with pytest.raises(InvalidLink):
        signer.check(ASSET_ID, str(signed.expires), signed.signature)


def test_a_link_stays_the_same_for_five_minutes(signer: LinkSigner, clock: MovableClock) -> None:
    clock.stopped_at = clock()
    links = []
    for _ in range(60):
        links.append(signer.sign(ASSET_ID))
        clock.advance(seconds=15)

    # Fifteen minutes touch three or four windows, and twenty of these moments are in a whole one.
    changes = [index for index in range(1, 60) if links[index] != links[index - 1]]
    assert len(set(links)) == len(changes) + 1
    assert [later - earlier for earlier, later in pairwise(changes)] == [20] * (len(changes) - 1)


@pytest.mark.parametrize(
    ("asset_id", "expires", "signature"),
    [
        (uuid4(), "{expires}", "{signature}"),
        (ASSET_ID, "1{expires}", "{signature}"),
        (ASSET_ID, "{expires}0", "{signature}"),
        (ASSET_ID, " {expires}", "{signature}"),
        (ASSET_ID, "9" * 5000, "{signature}"),
        (ASSET_ID, "never", "{signature}"),
        (ASSET_ID, "", "{signature}"),
        (ASSET_ID, "{expires}", "{signature}A"),
        (ASSET_ID, "{expires}", "ü\u202e"),
        (ASSET_ID, "{expires}", ""),
    ],
)
def test_no_part_of_a_link_can_be_changed(signer: LinkSigner, asset_id: UUID, expires: str, signature: str) -> None:
    signed = signer.sign(ASSET_ID)
    values = {"expires": signed.expires, "signature": signed.signature}

    with pytest.raises(InvalidLink):
        signer.check(asset_id, expires.format(**values), signature.format(**values))


def test_a_signature_is_case_sensitive_and_complete(signer: LinkSigner) -> None:
    signed = signer.sign(ASSET_ID)

    for signature in (signed.signature[:-1], signed.signature.swapcase()):
        with pytest.raises(InvalidLink):
            signer.check(ASSET_ID, str(signed.expires), signature)


def test_another_secret_makes_other_signatures(signer: LinkSigner, clock: MovableClock) -> None:
    signed = LinkSigner(SecretStr("m" * 32), clock=clock).sign(ASSET_ID)

    with pytest.raises(InvalidLink):
        signer.check(ASSET_ID, str(signed.expires), signed.signature)
