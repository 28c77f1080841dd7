"""The directory of signing keys: written once, read again after a change, never in half."""

import functools
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from user_service.tokens.signing_keys import SigningKeyError, SigningKeys, ensure_signing_key, write_signing_key


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    ensure_signing_key(tmp_path / "jwt")
    return tmp_path / "jwt"


def _kids(keys: SigningKeys) -> set[str]:
    return {key["kid"] for key in json.loads(keys.jwks)["keys"]}


def _promote(directory: Path, kid: str) -> None:
    (directory / "next").write_text(kid)
    (directory / "next").replace(directory / "current")


def test_the_first_key_is_written_once_and_readable_by_its_owner_only(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    ensure_signing_key(directory)

    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert len(list(directory.glob("*.pem"))) == 1
    for path in (*directory.glob("*.pem"), directory / "current"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.servers
def test_concurrent_processes_write_one_key(tmp_path: Path) -> None:
    code = "import sys, pathlib; from user_service.tokens.signing_keys import ensure_signing_key as make; "
    command = [sys.executable, "-c", code + "make(pathlib.Path(sys.argv[1]))", str(tmp_path / "jwt")]
    processes = [subprocess.Popen(command) for _ in range(4)]

    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert len(list((tmp_path / "jwt").glob("*.pem"))) == 1
    SigningKeys(tmp_path / "jwt")


def test_a_key_that_a_dying_process_left_without_current_is_used(directory: Path) -> None:
    (directory / "current").unlink()

    ensure_signing_key(directory)

    assert len(list(directory.glob("*.pem"))) == 1
    assert SigningKeys(directory).current.id == next(directory.glob("*.pem")).stem


async def test_only_public_parts_are_published(directory: Path) -> None:
    keys = SigningKeys(directory)
    (key,) = json.loads(keys.jwks)["keys"]

    assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    assert await keys.key(key["kid"]) == keys.current.private.public_key()
    assert await keys.key("unknown") is None


def test_a_new_key_is_published_before_it_signs_and_an_old_one_until_it_is_removed(directory: Path) -> None:
    keys = SigningKeys(directory)
    old = keys.current.id

    new = write_signing_key(directory)
    keys.refresh()
    assert (keys.current.id, _kids(keys)) == (old, {old, new})

    _promote(directory, new)
    keys.refresh()
    assert (keys.current.id, _kids(keys)) == (new, {old, new})

    (directory / f"{old}.pem").unlink()
    keys.refresh()
    assert (keys.current.id, _kids(keys)) == (new, {new})


def _pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@functools.cache
def _broken() -> dict[str, tuple[str, bytes]]:
    p256 = ec.generate_private_key(ec.SECP256R1())
    encrypted = p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return {
        "no key": ("new.pem", b"nonsense"),
        "empty": ("new.pem", b""),
        "cut off": ("new.pem", _pem(p256)[:100]),
        "another curve": ("new.pem", _pem(ec.generate_private_key(ec.SECP384R1()))),
        "RSA": ("new.pem", _pem(rsa.generate_private_key(65537, 2048))),
        "Ed25519": ("new.pem", _pem(ed25519.Ed25519PrivateKey.generate())),
        "encrypted": ("new.pem", encrypted),
        "a name that is no key id": ("new key.pem", _pem(p256)),
        "current without its key": ("current", b"gone"),
        "current that is no text": ("current", b"\xff"),
    }


@pytest.mark.parametrize("reason", _broken())
def test_an_unusable_file_is_refused_at_the_start_and_ignored_later(directory: Path, reason: str) -> None:
    keys = SigningKeys(directory)
    before = (keys.current, keys.jwks)
    name, content = _broken()[reason]
    (directory / name).write_bytes(content)

    keys.refresh()
    assert (keys.current, keys.jwks) == before
    with pytest.raises(SigningKeyError):
        SigningKeys(directory)
    with pytest.raises(SigningKeyError):
        ensure_signing_key(directory)


def test_a_missing_directory_leaves_the_keys_in_use(directory: Path) -> None:
    keys = SigningKeys(directory)
    before = (keys.current, keys.jwks)
    directory.rename(directory.with_name("elsewhere"))

    keys.refresh()

    assert (keys.current, keys.jwks) == before


def test_the_first_read_of_an_empty_directory_fails(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match=str(tmp_path)):
        SigningKeys(tmp_path)
