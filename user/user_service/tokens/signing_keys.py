"""The keys that sign access tokens: a directory of PEM files, read again within a second of a change.

    <kid>.pem             a private P-256 key (PKCS #8); the file's name is the key's id
    current               the id of the key that signs
    <kid>.retire-after    when the last token of a former key has expired (RFC 3339)

All keys are published (RFC 7517). So every service knows a new key before `current` names it, and an old key until its
last token has expired. Then each process forgets the old key by itself and removes its files.
"""

import asyncio
import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm
from loguru import logger
from prometheus_client import Counter

from opskit.file_lock import file_lock
from servicekit.auth.access_tokens import ALGORITHM
from servicekit.core.clock import Clock, utc_now
from servicekit.observability.key_metrics import ACCESS_TOKENS, KeyMetrics, announce_worker
from servicekit.sealing.key_files import new_key_id, write_key_file

CURRENT: Final = "current"
RETIRE_AFTER: Final = "retire-after"
CHECK_SECONDS: Final = 1.0

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

RELOAD_FAILURES = Counter(
    "service_signing_key_reload_failures_total", "Changes of signing keys that could not be used."
)


class SigningKeyError(ValueError):
    """The directory of signing keys cannot be used; the message names the file and the fault."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    id: str
    private: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class _Keys:
    current: SigningKey
    public: Mapping[str, ec.EllipticCurvePublicKey]
    jwks: bytes
    retirements: Mapping[str, datetime]

    @classmethod
    def of(
        cls,
        current: SigningKey,
        public: Mapping[str, ec.EllipticCurvePublicKey],
        retirements: Mapping[str, datetime],
    ) -> "_Keys":
        jwks = {"keys": [_jwk(kid, key) for kid, key in public.items()]}
        return cls(current, public, json.dumps(jwks).encode(), retirements)

    def without(self, retired: Collection[str]) -> "_Keys":
        public = {kid: key for kid, key in self.public.items() if kid not in retired}
        return self.of(self.current, public, {kid: at for kid, at in self.retirements.items() if kid in public})


class SigningKeys:
    """All keys of the directory. Implements `KeySource`; `refresh` may run in another thread than the look-ups."""

    def __init__(self, directory: Path, *, clock: Clock = utc_now) -> None:
        """Read the keys. Raises `SigningKeyError`."""
        announce_worker()
        self._directory = directory
        self._clock = clock
        self._held = KeyMetrics(ACCESS_TOKENS)
        self._version = _version(directory)
        self._keys = _read(directory)
        self._forget_retired()
        self._report()

    @property
    def current(self) -> SigningKey:
        """The key that signs."""
        return self._keys.current

    @property
    def jwks(self) -> bytes:
        """The JSON document of all public keys."""
        return self._keys.jwks

    async def key(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        return self.known(kid)

    def known(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        return self._keys.public.get(kid)

    def refresh(self) -> None:
        """Read the keys again if a file has changed, and forget the retired ones.

        If the files cannot be used, an error is logged and the last good keys stay in use.
        """
        self._read_again()
        self._forget_retired()
        self._report()

    def _read_again(self) -> None:
        version = _version(self._directory)
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = _read(self._directory)
        except SigningKeyError as error:
            RELOAD_FAILURES.inc()
            logger.error("the last good signing keys stay in use: {}", error)
        else:
            logger.info("signing keys read again; {} signs", self.current.id)

    def _forget_retired(self) -> None:
        now = self._clock()
        retired = [kid for kid, at in self._keys.retirements.items() if at <= now]
        if not retired:
            return
        self._keys = self._keys.without(retired)
        for kid in retired:
            logger.info("the signing key {} has retired", kid)
            _remove(self._directory, kid)

    def _report(self) -> None:
        self._held.report(self._keys.public, in_use=self.current.id)

    async def watch(self) -> None:
        """Keep the keys current, for ever."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            # A hanging disk must not stall requests.
            await asyncio.to_thread(self.refresh)


def ensure_signing_key(directory: Path) -> None:
    """Write the first key into an empty directory. Of several processes at once, one writes it.

    Raises `SigningKeyError` if the directory has keys that cannot be used.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Before the lock, which cannot be made in a directory that is mounted read-only.
    if (directory / CURRENT).exists():
        _read(directory)
        return
    with file_lock(directory / ".lock"):
        if (directory / CURRENT).exists():
            return
        # A process that died after its first write has left a key without `current`.
        make_current(directory, next(iter(_names(directory)), None) or write_signing_key(directory))


def write_signing_key(directory: Path, kid: str | None = None) -> str:
    """Write a new key and return its id. The key is published, but does not sign yet."""
    kid = kid or new_key_id(datetime.now(UTC))
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_key_file(directory / f"{kid}.pem", pem)
    return kid


def current_id(directory: Path) -> str:
    """Return the id of the key that signs. Raises OSError."""
    return (directory / CURRENT).read_text(encoding="ascii").strip()


def make_current(directory: Path, kid: str) -> None:
    """Let this key sign from now on."""
    write_key_file(directory / CURRENT, kid.encode())


def retire_others(directory: Path, kid: str, at: datetime) -> list[str]:
    """Have all other keys forgotten at this time and return their ids. A key that retires already keeps its time."""
    others = [name for name in _names(directory) if name != kid and not _retirement_file(directory, name).exists()]
    for other in others:
        write_key_file(_retirement_file(directory, other), at.isoformat().encode())
    return others


def _names(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.glob("[!.]*.pem"))


def _retirement_file(directory: Path, kid: str) -> Path:
    return directory / f"{kid}.{RETIRE_AFTER}"


def _remove(directory: Path, kid: str) -> None:
    # The service may lack the permission. The key is removed first: without its time, it would not be retired.
    with suppress(OSError):
        (directory / f"{kid}.pem").unlink(missing_ok=True)
        _retirement_file(directory, kid).unlink(missing_ok=True)


def _read(directory: Path) -> _Keys:
    try:
        found = {kid: _read_key(directory, kid) for kid in _names(directory)}
        current = current_id(directory)
        # The key that signs never retires, even if it has a time.
        retirements = {kid: at for kid in found if kid != current and (at := _retirement(directory, kid))}
    except (OSError, UnicodeDecodeError) as error:
        raise SigningKeyError(f"{directory}: {error}") from error
    keys = {kid: key for kid, key in found.items() if key is not None}
    if current not in keys:
        raise SigningKeyError(f"{directory / CURRENT}: it names a key that does not exist")
    public = {kid: private.public_key() for kid, private in keys.items()}
    return _Keys.of(SigningKey(current, keys[current]), public, retirements)


def _retirement(directory: Path, kid: str) -> datetime | None:
    path = _retirement_file(directory, kid)
    try:
        at = datetime.fromisoformat(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SigningKeyError(f"{path}: not a time") from error
    if at.tzinfo is None:
        raise SigningKeyError(f"{path}: a time without its zone")
    return at


def _read_key(directory: Path, kid: str) -> ec.EllipticCurvePrivateKey | None:
    """Return the key, or None if another worker has just removed it."""
    path = directory / f"{kid}.pem"
    if not _KEY_ID.fullmatch(kid):
        raise SigningKeyError(f"{path}: a key id has 1 to 64 characters of A-Z a-z 0-9 _ -")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningKeyError(f"{path}: not an unencrypted private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SigningKeyError(f"{path}: not a key on the curve P-256, which ES256 needs")
    return key


def _jwk(kid: str, key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    parameters = ECAlgorithm.to_jwk(key, as_dict=True)
    return {"kty": "EC", "crv": "P-256", "x": parameters["x"], "y": parameters["y"], "kid": kid} | {
        "use": "sig",
        "alg": ALGORITHM,
    }


def _version(directory: Path) -> tuple[tuple[str, int, int], ...]:
    """Return a value that differs after any change of the files, or `()` if the directory cannot be read."""
    with suppress(OSError), os.scandir(directory) as entries:
        found = [(entry.name, entry.stat()) for entry in entries if not entry.name.startswith(".")]
        return tuple(sorted((name, status.st_mtime_ns, status.st_ino) for name, status in found))
    return ()
