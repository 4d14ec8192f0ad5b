"""API keys: `tl_<id>_<secret>`, of which a file keeps the id and a hash, a line each."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from tideline.errors import Misconfigured, Overloaded, Unauthenticated
from tideline.rpc.files import Watched
from tideline.rpc.identity import ROLES, Identity
from tideline.rpc.tenants import is_tenant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PREFIX: Final = "tl_"
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
MOST_KNOWN: Final = 10_000
"""How many keys are remembered as verified."""
MOST_WAITING: Final = 64
"""Beyond so many keys that wait to be verified, calls with others are turned away."""

_KEY: Final = re.compile(r"tl_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NO_TENANT: Final = "-"
# Secrets are 256 random bits, which nobody guesses however cheap a guess is: no need to be as slow as for passwords.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the file has it: all but the secret."""

    key_id: str
    name: str
    roles: frozenset[str]
    tenant: str
    hash: str

    def line(self) -> str:
        return f"{self.key_id} {self.name} {','.join(sorted(self.roles))} {self.tenant or _NO_TENANT} {self.hash}\n"


def create(name: str, roles: frozenset[str], tenant: str) -> tuple[str, ApiKey]:
    """Make a key; returns it as the caller shows it, which is kept nowhere, and what the file keeps of it.

    Raises `Misconfigured` for a name, a role or a tenant that there cannot be.
    """
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    key = _checked(ApiKey(key_id, name, roles, tenant, _HASHER.hash(secret)))
    return f"{PREFIX}{key_id}_{secret}", key


def parse(held: Sequence[bytes]) -> dict[str, ApiKey]:
    """Read key files: `id name roles tenant hash` a line; empty lines and those that begin with # say nothing."""
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(b"\n".join(held).decode(errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key_id, name, roles, tenant, hashed = line.split()
            key = ApiKey(key_id, name, frozenset(roles.split(",")), "" if tenant == _NO_TENANT else tenant, hashed)
            keys[key_id] = _checked(key)
        except (ValueError, Misconfigured) as bad:
            raise Misconfigured(f"line {number} is not a key: it has to be `id name roles tenant hash`") from bad
    return keys


def _checked(key: ApiKey) -> ApiKey:
    if not NAME.fullmatch(key.name):
        raise Misconfigured("a name has up to 64 letters, digits, `.`, `_` and `-`")
    if not key.roles or key.roles - ROLES:
        raise Misconfigured(f"roles are {', '.join(sorted(ROLES))}")
    if key.tenant and not is_tenant(key.tenant):
        raise Misconfigured("a tenant has up to 32 lower-case letters, digits and `-`, which does not come first")
    try:
        _HASHER.check_needs_rehash(key.hash)
    except InvalidHashError:
        raise Misconfigured("a hash is one of argon2") from None
    return key


class ApiKeys:
    """The keys of a file, which may be changed while this runs: a key whose line is gone is refused by the next call.

    Verifying takes tens of milliseconds, so it is done beside the event loop, and remembered for `known_for` seconds
    under a keyed hash: keys themselves are not kept in memory.
    """

    def __init__(self, file: Path, known_for: float) -> None:
        """Read the file; raises `Misconfigured` when it is bad."""
        self._keys = Watched([file], parse)
        self._known_for = known_for
        self._salt = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._verifying: dict[bytes, asyncio.Future[bool]] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="argon2")

    async def identify(self, shown: str) -> Identity:
        """Return whose key this is; raises `Unauthenticated` when it is nobody's."""
        matched = _KEY.fullmatch(shown)
        key = self._keys.current().get(matched[1]) if matched else None
        if matched is None or key is None:
            raise Unauthenticated
        mark = blake2b(shown.encode(), key=self._salt, digest_size=32).digest()
        known = self._known.get(mark)
        # What was verified was verified against this hash: another key under the same id is another one.
        if known is None or known[0] != key.hash or known[1] <= time.monotonic():
            if not await self._verify(mark, key.hash, matched[2]):
                raise Unauthenticated
            self._remember(mark, key.hash)
        return Identity(f"key:{key.name}", key.roles, key.tenant)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _verify(self, mark: bytes, hashed: str, secret: str) -> bool:
        """Verify a secret, once for all who show it at the same time."""
        mark = mark + hashed.encode()
        if (verifying := self._verifying.get(mark)) is None:
            if len(self._verifying) >= MOST_WAITING:
                raise Overloaded("too many new keys at once")
            verifying = asyncio.get_running_loop().run_in_executor(self._threads, _fits, hashed, secret)
            self._verifying[mark] = verifying
            verifying.add_done_callback(lambda _: self._verifying.pop(mark))
        # Whoever goes away does not take the answer from the others.
        return await asyncio.shield(verifying)

    def _remember(self, mark: bytes, hashed: str) -> None:
        self._known[mark] = hashed, time.monotonic() + self._known_for
        self._known.move_to_end(mark)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


def _fits(hashed: str, secret: str) -> bool:
    try:
        return _HASHER.verify(hashed, secret)
    except (Argon2Error, InvalidHashError):
        return False
