"""How an envelope travels in HTTP: the headers that both sides use, and the text form of the envelope.

A body is the envelope itself. In a header the binary token of AES-256-GCM is written in base64; that of Fernet is text
already.
"""

import binascii
from typing import Final

from servicekit.sealing.envelope import EnvelopeRefused, Refusal, split

MEDIA_TYPE: Final = "application/vnd.baseplate.envelope"
# The longest message, counted as ciphertext, in bytes.
MAX_SEALED_BYTES: Final = 1024 * 1024

# Header names, in lower case as ASGI has them.
COMMUNICATION: Final = "x-service-communication"
ENCRYPTED: Final = "encrypted"
CALLER: Final = "x-service-name"
ENVELOPE: Final = "x-service-envelope"
ENCRYPT_RESPONSE: Final = "x-encrypt-response"
NONCE: Final = "x-service-nonce"

# Requests and responses without a body carry the envelope in a header.
ENVELOPE_IN_HEADER: Final = frozenset({"GET", "HEAD", "DELETE"})
BODILESS_STATUSES: Final = frozenset({204, 304})

_BINARY = b"aes-256-gcm"


def to_header(wire: bytes) -> bytes:
    """Return the envelope as text for a header."""
    version, cipher, key_id, token = split(wire)
    if cipher == _BINARY:
        token = binascii.b2a_base64(token, newline=False)
    return b".".join((version, cipher, key_id, token))


def from_header(text: bytes) -> bytes:
    """Return the envelope that `to_header` turned into exactly this text. Raises `EnvelopeRefused`."""
    version, cipher, key_id, token = split(text)
    if cipher == _BINARY:
        try:
            token = binascii.a2b_base64(token, strict_mode=True)
        except binascii.Error:
            raise EnvelopeRefused(Refusal.MALFORMED) from None
    wire = b".".join((version, cipher, key_id, token))
    # Other spellings of the same base64 are refused. Encoding again is cheap: an envelope in a header is short.
    if to_header(wire) != text:
        raise EnvelopeRefused(Refusal.MALFORMED)
    return wire
