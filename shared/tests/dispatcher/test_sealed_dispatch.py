"""The dispatcher's sealed calls over real connections to a real server."""

from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from servicekit.dispatcher import (
    AiohttpTransport,
    CallPolicy,
    Dispatcher,
    InvalidCall,
    Peer,
    PeerFailed,
    PeerRefused,
    ResponseRejected,
)
from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.key_files import file_name, write_key_file
from servicekit.sealing.keyring import Keyring
from servicekit.testing.sealed import make_keyrings
from servicekit.testing.serving import listening

PATH = "/api/v1/parcels"

ONCE = CallPolicy(attempts=1)


@pytest.fixture(params=["h11", "httptools"])
async def url(replica: Any, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a replica behind uvicorn, with either of its HTTP parsers."""
    async with listening(replica.app, http=request.param) as url:
        yield url


async def _dispatcher(url: str, sealer: MessageSealer | None) -> AsyncIterator[Dispatcher]:
    async with Dispatcher([Peer("analytics", (url,))], transport=AiohttpTransport(), sealer=sealer) as made:
        yield made


@pytest.fixture(params=get_args(CipherName))
async def dispatcher(
    url: str, keyrings: dict[str, Keyring], request: pytest.FixtureRequest
) -> AsyncIterator[Dispatcher]:
    async for made in _dispatcher(url, MessageSealer("user", keyrings["user"], request.param)):
        yield made


async def test_sealed_calls_of_every_method_arrive_and_return(dispatcher: Dispatcher, replica: Any) -> None:
    created = await dispatcher.call("analytics", PATH, method="POST", json={"weight": 3}, encrypted=True)
    replaced = await dispatcher.call("analytics", f"{PATH}/a%20b", method="PUT", json={"weight": 4}, encrypted=True)
    read = await dispatcher.call("analytics", f"{PATH}/sealed", params={"q": "é ?&=/%"}, encrypted=True)
    looked = await dispatcher.call("analytics", f"{PATH}/sealed", method="HEAD", encrypted=True)
    deleted = await dispatcher.call("analytics", f"{PATH}/x", method="DELETE", encrypted=True)

    assert (created.status, created.json()) == (201, {"weight": 3, "caller": "user"})
    assert (created.headers["location"], created.headers["etag"]) == (f"{PATH}/1", '"v1"')
    assert (replaced.status, replaced.json()) == (200, {"weight": 4})
    assert read.json()["q"] == "é ?&=/%"
    assert (looked.status, looked.headers["x-parcels"], looked.body) == (200, "3", b"")
    assert (deleted.status, deleted.body) == (204, b"")
    assert replica.executed == ["create", "replace", "read", "look", "delete"]


async def test_an_unchanged_answer_arrives(dispatcher: Dispatcher) -> None:
    answer = await dispatcher.call("analytics", f"{PATH}/unchanged", headers={"If-None-Match": '"v7"'}, encrypted=True)

    assert (answer.status, answer.headers["etag"]) == (304, '"v7"')


async def test_the_reason_of_a_sealed_refusal_arrives(dispatcher: Dispatcher) -> None:
    with pytest.raises(PeerRefused) as invalid:
        await dispatcher.call("analytics", PATH, method="POST", json={"weight": "heavy"}, encrypted=True)
    assert invalid.value.response.json()["errors"][0]["field"] == "body.weight"

    with pytest.raises(PeerFailed) as busy:
        await dispatcher.call("analytics", f"{PATH}/busy", encrypted=True, policy=ONCE)
    assert busy.value.response.headers["retry-after"] == "7"

    with pytest.raises(PeerRefused) as forbidden:
        await dispatcher.call("analytics", f"{PATH}/public", encrypted=True)
    assert forbidden.value.response.status == 403


async def test_a_large_message_passes_and_a_larger_one_is_not_even_sent(dispatcher: Dispatcher, replica: Any) -> None:
    large = await dispatcher.call("analytics", f"{PATH}/long", params={"size": 500_000}, encrypted=True)
    assert len(large.body) == 500_000

    with pytest.raises(InvalidCall, match="1048576"):
        await dispatcher.call("analytics", PATH, method="POST", content=b"x" * 1_050_000, encrypted=True)

    assert replica.executed == []


async def test_a_caller_without_a_key_or_with_another_one_gets_nothing(
    url: str, replica: Any, keyrings: dict[str, Keyring], tmp_path: Any
) -> None:
    strangers = make_keyrings(tmp_path / "other", {"user": ["analytics"]})
    async for dispatcher in _dispatcher(url, MessageSealer("user", strangers["user"], "fernet")):
        with pytest.raises(PeerRefused) as refused:
            await dispatcher.call("analytics", f"{PATH}/any", encrypted=True)
        assert refused.value.response.status == 401
    async for dispatcher in _dispatcher(url, MessageSealer("user", keyrings["notes"], "fernet")):
        with pytest.raises(InvalidCall, match="no key"):
            await dispatcher.call("analytics", f"{PATH}/any", encrypted=True)
    assert replica.executed == []


async def test_an_answer_in_plain_text_is_never_taken_for_a_sealed_one(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pass_on(receiver: Any, scope: Any, receive: Any, send: Any) -> None:
        await receiver._app(scope, receive, send)

    monkeypatch.setattr("servicekit.sealing.middleware.SealedReceiver.__call__", pass_on)

    with pytest.raises(ResponseRejected):
        await dispatcher.call("analytics", f"{PATH}/public", encrypted=True)


async def test_calls_go_on_while_keys_and_cipher_change_step_by_step(
    url: str, replica: Any, keyrings: dict[str, Keyring], tmp_path: Any
) -> None:
    """The phases of a rotation: add the new key everywhere, seal with it, take the old one away."""
    name = file_name("user", "analytics")
    sides = [tmp_path / "keys" / side for side in ("user", "analytics")]
    old = (sides[0] / name).read_bytes()
    new = make_keyrings(tmp_path / "new", {"user": ["analytics"]})
    assert new
    old_key = old[old.index(b"[") + 1 : old.rindex(b"]")].strip()
    text = (tmp_path / "new" / "user" / name).read_bytes()
    new_key = text[text.index(b"[") + 1 : text.rindex(b"]")].strip()
    head, tail = old[: old.index(b"[") + 1], old[old.rindex(b"]") :]

    async def call(cipher: CipherName) -> None:
        async for dispatcher in _dispatcher(url, MessageSealer("user", keyrings["user"], cipher)):
            answer = await dispatcher.call("analytics", f"{PATH}/any", encrypted=True)
            assert answer.json() == {"caller": "user"}

    for keys in (old_key + b"," + new_key, new_key + b"," + old_key, new_key):
        for side in sides:
            write_key_file(side / name, head + keys + tail)
            keyrings[side.name].refresh()
            await call("fernet")
            await call("aes-256-gcm")
    assert len(replica.executed) == 12
