"""JSON Web Tokens (RFC 7519, RFC 8725) as credentials."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import jwt

from tideline.errors import Unauthenticated
from tideline.rpc.identity import ROLES, Identity
from tideline.rpc.tenants import is_tenant

if TYPE_CHECKING:
    from datetime import timedelta

    from tideline.rpc.signing_keys import SigningKeys

MOST_VERIFIED: Final = 10_000
"""How many tokens are remembered; those that were shown longest ago are forgotten first."""
_FAR: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token has to say, and where it says what its bearer is."""

    audience: str
    issuer: str
    algorithms: frozenset[str]
    skew: timedelta
    roles_claim: str
    tenant_claim: str


@dataclass(frozen=True, slots=True)
class _Verified:
    """What a token was found to say, and by which key; it says so for as long as that is the key, and until then."""

    key_id: str | None
    algorithm: str
    key: Any
    identity: Identity
    until: float


class Tokens:
    """Tokens that an identity provider has signed.

    Checking a signature takes as long as a small call. So what a token says is remembered, under a keyed hash of it.
    """

    def __init__(self, rules: TokenRules, keys: SigningKeys) -> None:
        self._rules = rules
        self._keys = keys
        self._salt = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def identify(self, shown: str) -> Identity:
        """Return whose token this is.

        Raises `Unauthenticated` when it is nobody's, `DependencyUnavailable` when the keys to tell by are out of reach.
        """
        mark = blake2b(shown.encode(), key=self._salt, digest_size=32).digest()
        known = self._verified.get(mark)
        if (
            known is None
            or known.until <= time.time()
            or await self._keys.find(known.key_id, known.algorithm) is not known.key
        ):
            known = await self._verify(shown)
        # Others may have had it forgotten meanwhile.
        self._verified[mark] = known
        self._verified.move_to_end(mark)
        if len(self._verified) > MOST_VERIFIED:
            self._verified.popitem(last=False)
        return known.identity

    async def _verify(self, shown: str) -> _Verified:
        rules = self._rules
        try:
            header = jwt.get_unverified_header(shown)
            algorithm = header.get("alg")
            # The header says how to check the token, so it has to be one of the ways we trust. Extensions that have to
            # be understood (`crit`) are not.
            if algorithm not in rules.algorithms or "crit" in header:
                raise Unauthenticated
            key = await self._keys.find(header.get("kid"), algorithm)
            if key is None:
                raise Unauthenticated
            claims = jwt.decode(
                shown,
                key,
                algorithms=[algorithm],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.skew,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
        # Claims of the wrong type, and numbers beyond what a time can be, are found by whatever trips over them.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthenticated from None
        tenant = _claim(claims, rules.tenant_claim) or ""
        if not claims["sub"] or (tenant and not (isinstance(tenant, str) and is_tenant(tenant))):
            raise Unauthenticated
        identity = Identity(f"token:{claims['sub']}", _roles(_claim(claims, rules.roles_claim)), tenant)
        until = min(int(claims["exp"]), _FAR) + rules.skew.total_seconds()
        return _Verified(header.get("kid"), algorithm, key, identity, until)


def _claim(claims: dict[str, Any], path: str) -> Any:
    """Return the claim at a path such as `realm_access.roles`; a claim may also be called so as a whole."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _roles(claimed: Any) -> frozenset[str]:
    """Return our roles among those that are claimed, as a list or as a text with spaces between them."""
    names = claimed.split() if isinstance(claimed, str) else claimed
    return ROLES & {name for name in names if isinstance(name, str)} if isinstance(names, list) else frozenset()
