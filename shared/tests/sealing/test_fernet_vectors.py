"""The test vectors of the Fernet specification (https://github.com/fernet/spec), against the cipher that seals."""

import base64
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from servicekit.sealing.ciphers import FernetCipher, Unopenable

VECTORS = Path(__file__).parent / "vectors" / "fernet"


def _vectors(name: str) -> list[Any]:
    vectors = orjson.loads((VECTORS / f"{name}.json").read_bytes())
    assert vectors
    return list(vectors)


def _cipher(vector: dict[str, Any]) -> FernetCipher:
    return FernetCipher(base64.urlsafe_b64decode(vector["secret"]))


def _now(vector: dict[str, Any]) -> float:
    return datetime.fromisoformat(vector["now"]).timestamp()


@pytest.mark.parametrize("vector", _vectors("generate"))
def test_seals_what_the_specification_generates(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda _: bytes(vector["iv"]))

    assert _cipher(vector).seal(vector["src"].encode(), _now(vector)).decode() == vector["token"]


@pytest.mark.parametrize("vector", _vectors("verify"))
def test_opens_what_the_specification_verifies(vector: dict[str, Any]) -> None:
    assert _cipher(vector).open(vector["token"].encode(), _now(vector)) == vector["src"].encode()


@pytest.mark.parametrize("vector", _vectors("invalid"), ids=lambda vector: vector["desc"])
def test_refuses_what_the_specification_calls_invalid(vector: dict[str, Any]) -> None:
    with pytest.raises(Unopenable):
        _cipher(vector).open(vector["token"].encode(), _now(vector))
