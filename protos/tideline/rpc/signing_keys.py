"""The public keys that tokens are signed with: a JSON Web Key Set (RFC 7517) from a file or a URL."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from tideline.errors import DependencyUnavailable, Misconfigured
from tideline.rpc import logs
from tideline.rpc.exposure import is_loopback
from tideline.rpc.files import Watched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATIENCE_S: Final = 5.0
MOST_BYTES: Final = 1024 * 1024

_FAMILIES: Final = (
    (rsa.RSAPublicKey, ("RS", "PS")),
    (ec.EllipticCurvePublicKey, ("ES",)),
    (ed25519.Ed25519PublicKey, ("EdDSA",)),
    (ed448.Ed448PublicKey, ("EdDSA",)),
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Key:
    key_id: str | None
    algorithm: str | None
    public: Any

    def signs(self, algorithm: str) -> bool:
        """Whether tokens of this algorithm may be signed with it: never one that is for keys of another kind."""
        families = [names for kind, names in _FAMILIES if isinstance(self.public, kind)]
        return self.algorithm in (None, algorithm) and any(algorithm.startswith(names) for names in families)


class KeySet:
    """The public keys of a set; what is not for signatures, or not understood, is left out."""

    def __init__(self, document: bytes) -> None:
        """Read a set; raises `Misconfigured` when it is none."""
        try:
            self._keys = [key for entry in json.loads(document)["keys"] if (key := _public(entry)) is not None]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Misconfigured("not a JSON Web Key Set") from None

    def find(self, key_id: str | None, algorithm: str) -> Any:
        """Return the public key for a token; a token that names none fits only where there is one. None without."""
        found = [key for key in self._keys if key_id in (None, key.key_id) and key.signs(algorithm)]
        return found[0].public if len(found) == 1 else None


def _public(entry: dict[str, Any]) -> _Key | None:
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return None
    try:
        public = jwt.PyJWK(entry).key
    except jwt.PyJWTError:
        return None
    # A symmetric key, or a private one, has no business in a set that is handed out.
    if not any(isinstance(public, kind) for kind, _ in _FAMILIES):
        return None
    return _Key(entry.get("kid"), entry.get("alg"), public)


class SigningKeys(Protocol):
    """Where the keys are found."""

    async def find(self, key_id: str | None, algorithm: str) -> Any:
        """Return the public key for a token, None without; raises `DependencyUnavailable` when nobody knows."""


class KeysOfFile:
    """The keys of a file, which may be changed while this runs."""

    def __init__(self, file: Path) -> None:
        """Read the file; raises `Misconfigured` when it is bad."""
        self._file = Watched([file], _key_set)

    async def find(self, key_id: str | None, algorithm: str) -> Any:
        return self._file.current().find(key_id, algorithm)


def _key_set(held: Sequence[bytes]) -> KeySet:
    return KeySet(held[0])


class KeysOfUrl:
    """The keys at a URL.

    They are fetched for the first token, for a token that names a key which is not among them, and beside the calls
    once they are older than `max_age`; but not more often than every `min_interval` seconds.
    """

    def __init__(self, url: str, *, ca_file: Path | None, max_age: float, min_interval: float) -> None:
        """Prepare; raises `Misconfigured` for a URL that anybody on the way could answer for."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.netloc)):
            raise Misconfigured("keys for tokens are fetched by https only, except from this machine")
        self._url = url
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise Misconfigured(f"cannot read {ca_file} as CA certificates") from error
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects)
        self._max_age, self._min_interval = max_age, min_interval
        self._keys: KeySet | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> Any:
        key = self._keys.find(key_id, algorithm) if self._keys is not None else None
        fetching = self._fetch_if_due(wanted=key is None)
        if key is None and fetching is not None:
            # Shielded: others wait for it, too.
            await asyncio.shield(fetching)
            key = self._keys.find(key_id, algorithm) if self._keys is not None else None
        if self._keys is None:
            raise DependencyUnavailable("the keys for tokens cannot be fetched")
        return key

    def _fetch_if_due(self, *, wanted: bool) -> asyncio.Task[None] | None:
        """Begin to fetch when that is due; returns the fetching that is under way, if any."""
        now = time.monotonic()
        due = (wanted or now - self._fetched > self._max_age) and now - self._tried > self._min_interval
        if due and (self._fetching is None or self._fetching.done()):
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            self._keys = KeySet(await asyncio.to_thread(self._read))
        except (OSError, HTTPException, ValueError, Misconfigured) as error:
            _log.error(
                "keys for tokens cannot be fetched; those from before go on", url=self._url, **logs.describe(error)
            )
        else:
            self._fetched = time.monotonic()

    def _read(self) -> bytes:
        with self._opener.open(self._url, timeout=PATIENCE_S) as answer:
            document: bytes = answer.read(MOST_BYTES + 1)
        if len(document) > MOST_BYTES:
            raise Misconfigured("too large for a JSON Web Key Set")
        return document


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the settings say, and from nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None
