"""How an envelope travels in HTTP: the names that both sides of a sealed call use."""

from typing import Final

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

# Requests and answers that have no body carry the envelope in a header.
ENVELOPE_IN_HEADER: Final = frozenset({"GET", "HEAD", "DELETE"})
BODILESS_STATUSES: Final = frozenset({204, 304})
