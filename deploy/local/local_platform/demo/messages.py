"""A sealed message between two services: as it is sent, as it is opened, and a second time."""

import json
import time

import httpx2

from local_platform.demo.tour import TIMEOUT_SECONDS, Visit
from servicekit.dispatcher.transport import CannotOpen
from servicekit.sealing.ciphers import LIFETIME_SECONDS, CipherName
from servicekit.sealing.client import MessageSealer, SentMessage
from servicekit.sealing.envelope import open_request
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.wire import COMMUNICATION

CALLER, CALLEE = "user", "analytics"
TARGET = "/api/v1/analytics/events"
# The one whose messages are text.
CIPHER: CipherName = "fernet"
SHOWN = 48


def seal_a_message(visit: Visit) -> None:
    """Record an event as the user service would, with its keys, then do so again with the very same message."""
    keyring = Keyring(CALLER, visit.platform.keys(CALLER))
    sealer = MessageSealer(CALLER, keyring, CIPHER)
    event = {
        "type": "demo.sealed",
        "user_id": visit.account["id"],
        "properties": {"note": "nobody on the way reads it"},
    }
    body = json.dumps(event).encode()
    message = sealer.seal_request(CALLEE, "POST", TARGET, {"content-type": "application/json"}, body)
    _show(visit, message, keyring)
    visit.claim("nothing of it can be read on the way", b"demo.sealed" not in message.body)

    with httpx2.Client(timeout=TIMEOUT_SECONDS) as services:
        replicas = visit.platform.urls(CALLEE)
        answer = _sent(services, replicas[0], message)
        visit.answered(f"the {CALLEE} service takes it from the {CALLER} service", answer, 202)
        visit.claim("the answer is sealed, too", answer.headers.get(COMMUNICATION) == "encrypted", answer.headers)
        opened = sealer.open_response(CALLEE, message, answer.status_code, answer.headers, answer.content)
        visit.report.shown(answer_sent=_start(answer.content), answer_opened=opened.body.decode())
        other = sealer.seal_request(CALLEE, "POST", TARGET, {}, b"{}")
        visit.claim("it opens as the answer to this request alone", _is_refused(sealer, other, answer))
        for replica in dict.fromkeys((replicas[0], replicas[-1])):
            visit.answered(f"the same message again is refused ({replica})", _sent(services, replica, message), 401)
        elsewhere = _sent(services, replicas[0], other, f"{TARGET}?again")
        visit.answered("and so is one that was sealed for another path", elsewhere, 401)


def _show(visit: Visit, message: SentMessage, keyring: Keyring) -> None:
    opened = open_request(
        message.body,
        message.binding,
        lambda key_id: keyring.opening_key(CALLER, CALLEE, key_id),
        now=time.time(),
    )
    visit.report.shown(
        as_sent=f"{_start(message.body)} ({len(message.body)} bytes)",
        as_opened=opened.body.decode(),
        bound_to=f"{CALLER} → {CALLEE}, POST {TARGET}",
        good_for=f"{LIFETIME_SECONDS} s, once (nonce {opened.nonce})",
    )


def _sent(services: httpx2.Client, url: str, message: SentMessage, target: str = TARGET) -> httpx2.Response:
    return services.post(url + target, headers=dict(message.headers), content=message.body)


def _is_refused(sealer: MessageSealer, request: SentMessage, answer: httpx2.Response) -> bool:
    try:
        sealer.open_response(CALLEE, request, answer.status_code, answer.headers, answer.content)
    except CannotOpen:
        return True
    return False


def _start(wire: bytes) -> str:
    return f"{wire[:SHOWN].decode('latin-1')}…"
