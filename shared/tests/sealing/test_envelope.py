"""Sealed messages open for what they were made for, and for nothing else."""

import base64
from typing import Any, get_args

import orjson
import pytest

from servicekit.sealing import envelope
from servicekit.sealing import wire as sealed_wire
from servicekit.sealing.ciphers import CipherName, Key
from servicekit.sealing.envelope import Direction, EnvelopeRefused, MessageBinding, OpenedMessage, Refusal

NOW = 1_800_000_000.25
NONCE = "n" * 22
KEY = Key("first", bytes(range(32)))
OTHER_KEY = Key("second", bytes(range(1, 33)))
BINDING = MessageBinding("user", "analytics", "POST", b"/api/v1/analytics/events?q=%C3%A9&x=\xff")
HEADERS = [(b"content-type", b"application/json"), (b"idempotency-key", b"k1")]
BODY = b'{"type": "note"}\n\x00\xff'

ciphers = pytest.mark.parametrize("cipher", get_args(CipherName))


def _keys(key_id: str) -> Key | None:
    return {key.id: key for key in (KEY, OTHER_KEY)}.get(key_id)


def _request(cipher: CipherName = "fernet", binding: MessageBinding = BINDING, now: float = NOW) -> bytes:
    return envelope.seal_request(binding, KEY, cipher, nonce=NONCE, headers=HEADERS, body=BODY, now=now)


def _response(cipher: CipherName = "fernet", **changes: Any) -> bytes:
    parts: dict[str, Any] = {"nonce": NONCE, "status": 201, "headers": HEADERS, "body": BODY, "now": NOW} | changes
    return envelope.seal_response(BINDING, KEY, cipher, **parts)


def _open(wire: bytes, binding: MessageBinding = BINDING, now: float = NOW) -> OpenedMessage:
    return envelope.open_request(wire, binding, _keys, now=now)


def _open_response(wire: bytes, **changes: Any) -> OpenedMessage:
    parts: dict[str, Any] = {"nonce": NONCE, "status": 201, "now": NOW} | changes
    return envelope.open_response(wire, BINDING, _keys, **parts)


def _reason(wire: bytes, **changes: Any) -> Refusal:
    with pytest.raises(EnvelopeRefused) as refused:
        _open(wire, **changes)
    return refused.value.reason


@ciphers
def test_a_request_arrives_with_its_headers_its_body_and_its_nonce(cipher: CipherName) -> None:
    opened = _open(_request(cipher))

    assert (opened.key, opened.nonce, opened.headers, opened.body) == (KEY, NONCE, HEADERS, BODY)


@ciphers
def test_a_response_arrives_with_its_status(cipher: CipherName) -> None:
    opened = _open_response(_response(cipher))

    assert (opened.status, opened.headers, opened.body) == (201, HEADERS, BODY)


@ciphers
@pytest.mark.parametrize("size", [0, 1, 2, 3, 15, 16, 17])
def test_a_message_altered_in_any_byte_does_not_open(cipher: CipherName, size: int) -> None:
    """Different body sizes end in different base64 paddings and cipher blocks."""
    wire = envelope.seal_request(BINDING, KEY, cipher, nonce=NONCE, headers=[], body=b"b" * size, now=NOW)
    assert _open(wire).body == b"b" * size

    for position in range(len(wire)):
        for bit in range(8):
            altered = bytearray(wire)
            altered[position] ^= 1 << bit
            with pytest.raises(EnvelopeRefused):
                _open(bytes(altered))


@ciphers
def test_a_message_with_a_byte_more_or_less_does_not_open(cipher: CipherName) -> None:
    wire = _request(cipher)

    for position in range(len(wire)):
        with pytest.raises(EnvelopeRefused):
            _open(wire[:position] + wire[position + 1 :])
        for inserted in (b"A", b"=", b"\n", b" ", b".", b"\x00"):
            with pytest.raises(EnvelopeRefused):
                _open(wire[:position] + inserted + wire[position:])
    for suffix in (b"=", b"==", b"\n", b"AAAA", b"\x00"):
        with pytest.raises(EnvelopeRefused):
            _open(wire + suffix)


@ciphers
def test_a_truncated_message_does_not_open(cipher: CipherName) -> None:
    wire = _request(cipher)

    for length in range(len(wire)):
        with pytest.raises(EnvelopeRefused):
            _open(wire[:length])


@ciphers
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"caller": "notes"}, Refusal.OTHER_CALLER),
        ({"callee": "user"}, Refusal.OTHER_AUDIENCE),
        ({"method": "PUT"}, Refusal.OTHER_METHOD),
        ({"target": b"/api/v1/analytics/stats?q=%C3%A9&x=\xff"}, Refusal.OTHER_PATH),
        ({"target": b"/api/v1/analytics/events"}, Refusal.OTHER_PATH),
        ({"target": b"/api/v1/analytics/events?q=%c3%a9&x=\xff"}, Refusal.OTHER_PATH),
        ({"target": b"/api/v1/analytics/events?x=\xff&q=%C3%A9"}, Refusal.OTHER_PATH),
    ],
)
def test_a_message_opens_for_no_other_caller_callee_method_path_or_query(
    cipher: CipherName, change: dict[str, Any], reason: Refusal
) -> None:
    assert _reason(_request(cipher), binding=BINDING._replace(**change)) is reason


@ciphers
@pytest.mark.parametrize("age", [-5.0, 0.0, 29.9, 30.0])
def test_a_message_opens_within_its_lifetime_and_the_clock_skew(cipher: CipherName, age: float) -> None:
    assert _open(_request(cipher), now=NOW + age).body == BODY


@ciphers
@pytest.mark.parametrize("age", [30.1, 31.0, 60.0, 91.0, 10_000.0])
def test_a_stale_message_does_not_open(cipher: CipherName, age: float) -> None:
    assert _reason(_request(cipher), now=NOW + age) is Refusal.STALE


@ciphers
@pytest.mark.parametrize("lead", [5.1, 59.0, 61.0, 10_000.0])
def test_a_message_from_the_future_does_not_open(cipher: CipherName, lead: float) -> None:
    assert _reason(_request(cipher), now=NOW - lead) is Refusal.FUTURE


@ciphers
def test_a_response_does_not_open_as_a_request_nor_a_request_as_a_response(cipher: CipherName) -> None:
    assert _reason(_response(cipher)) is Refusal.OTHER_DIRECTION
    with pytest.raises(EnvelopeRefused, match=Refusal.OTHER_DIRECTION):
        _open_response(_request(cipher))


@ciphers
@pytest.mark.parametrize("sealed_as", [Direction.RESPONSE, Direction.PLAIN_RESPONSE])
def test_the_response_to_a_plain_request_does_not_open_as_that_to_a_sealed_one(
    cipher: CipherName, sealed_as: Direction
) -> None:
    other = Direction.PLAIN_RESPONSE if sealed_as is Direction.RESPONSE else Direction.RESPONSE
    wire = _response(cipher, direction=sealed_as)

    assert _open_response(wire, direction=sealed_as).body == BODY
    with pytest.raises(EnvelopeRefused, match=Refusal.OTHER_DIRECTION):
        _open_response(wire, direction=other)


@ciphers
def test_a_response_opens_for_its_own_request_and_status_only(cipher: CipherName) -> None:
    wire = _response(cipher)

    with pytest.raises(EnvelopeRefused, match=Refusal.OTHER_REQUEST):
        _open_response(wire, nonce="m" * 22)
    with pytest.raises(EnvelopeRefused, match=Refusal.OTHER_STATUS):
        _open_response(wire, status=200)
    with pytest.raises(EnvelopeRefused, match=Refusal.STALE):
        _open_response(wire, now=NOW + 31)


def test_a_message_under_one_key_or_cipher_does_not_open_under_another() -> None:
    version, cipher, key_id, token = _request("fernet").split(b".", 3)

    assert _reason(b".".join((version, cipher, b"second", token))) is Refusal.UNOPENABLE
    assert _reason(b".".join((version, cipher, b"third", token))) is Refusal.UNKNOWN_KEY
    assert _reason(b".".join((version, b"aes-256-gcm", key_id, token))) is Refusal.UNOPENABLE
    assert _reason(b".".join((version, b"none", key_id, token))) is Refusal.MALFORMED
    assert _reason(b".".join((b"v2", cipher, key_id, token))) is Refusal.MALFORMED


@ciphers
def test_a_key_known_by_two_ids_opens_only_under_the_id_that_sealed(cipher: CipherName) -> None:
    """The id outside is bound inside, so that a label can never be bindingd."""
    alias = Key("alias", bytes(range(32)))
    wire = _request(cipher).replace(b".first.", b".alias.", 1)

    with pytest.raises(EnvelopeRefused, match=Refusal.OTHER_LABEL):
        envelope.open_request(wire, BINDING, lambda _: alias, now=NOW)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b".",
        b"...",
        b"v1",
        b"v1.fernet.first",
        b"v1.fernet.first.",
        b"v1.aes-256-gcm.first.",
        b"v1.aes-256-gcm.first.AAAA",
        b"v1.fernet..AAAA",
        b"v1.fernet.\xff\xfe.AAAA",
        "v1.fernet.first.ümläut".encode(),
        "v1.aes-256-gcm.first.ümläut".encode(),
        b"\xff" * 100,
    ],
)
def test_bytes_that_are_not_a_message_are_refused(wire: bytes) -> None:
    with pytest.raises(EnvelopeRefused):
        _open(wire)


@ciphers
@pytest.mark.parametrize(
    "payload",
    [b"", b"\n", b"[]\n", b"{}\n", b"null\n", b'"text"\n', b"{", b'{"iat": "now"}\n', b'{"iat": null}\n', b"\xff\n"],
)
def test_a_genuine_payload_of_another_form_is_refused(cipher: CipherName, payload: bytes) -> None:
    token = KEY.cipher(cipher).seal(payload, NOW)

    assert _reason(b".".join((b"v1", cipher.encode(), b"first", token))) is Refusal.MALFORMED


@ciphers
@pytest.mark.parametrize(
    "change",
    [
        {"nonce": None},
        {"nonce": "short"},
        {"nonce": "n" * 22 + "\n"},
        {"headers": None},
        {"headers": [["one"]]},
        {"headers": [[1, 2]]},
        {"headers": [["name", "€"]]},
    ],
)
def test_a_genuine_header_of_another_form_is_refused(cipher: CipherName, change: dict[str, Any]) -> None:
    version, label, key_id, token = _request(cipher).split(b".", 3)
    header, _, body = KEY.cipher(cipher).open(token, NOW).partition(b"\n")
    forged = KEY.cipher(cipher).seal(orjson.dumps(orjson.loads(header) | change) + b"\n" + body, NOW)

    assert _reason(b".".join((version, label, key_id, forged))) is Refusal.MALFORMED


@ciphers
def test_the_same_request_is_never_sealed_into_the_same_bytes(cipher: CipherName) -> None:
    assert len({_request(cipher) for _ in range(100)}) == 100
    assert len({envelope.new_nonce() for _ in range(100)}) == 100
    assert envelope.is_nonce(envelope.new_nonce())


@ciphers
def test_nothing_of_the_content_shows_outside(cipher: CipherName) -> None:
    wire = envelope.seal_request(BINDING, KEY, cipher, nonce=NONCE, headers=HEADERS, body=b"secret" * 50, now=NOW)
    token = wire.split(b".", 3)[3]
    raw = base64.urlsafe_b64decode(token) if cipher == "fernet" else token

    for word in (b"secret", NONCE.encode(), b"idempotency", b"/api/"):
        assert word not in raw


@ciphers
def test_a_message_in_a_header_is_text_and_opens_in_one_spelling_only(cipher: CipherName) -> None:
    for size in range(4):
        wire = envelope.seal_request(BINDING, KEY, cipher, nonce=NONCE, headers=[], body=b"b" * size, now=NOW)
        text = sealed_wire.to_header(wire)
        assert text.isascii()
        assert text.decode().isprintable()
        assert sealed_wire.from_header(text) == wire

        for position in range(len(text)):
            for bit in range(8):
                altered = bytearray(text)
                altered[position] ^= 1 << bit
                with pytest.raises(EnvelopeRefused):
                    _open(sealed_wire.from_header(bytes(altered)))
            for inserted in (b"A", b"=", b"\n", b" "):
                with pytest.raises(EnvelopeRefused):
                    _open(sealed_wire.from_header(text[:position] + inserted + text[position:]))


@pytest.mark.parametrize(
    "text", [b"", b"v1", b"v1.fernet.first", b"v1.aes-256-gcm.first.", b"v1.aes-256-gcm.first.A", b"\xff"]
)
def test_a_header_without_a_message_is_refused(text: bytes) -> None:
    with pytest.raises(EnvelopeRefused):
        _open(sealed_wire.from_header(text))


def test_a_key_does_not_show_its_secret() -> None:
    shown = repr(KEY) + str(KEY) + repr(_open(_request()))

    assert "Key(id='first')" in shown
    assert repr(bytes(range(32)))[2:-1] not in shown
    with pytest.raises(ValueError, match="32 bytes"):
        Key("short", b"x" * 31)
