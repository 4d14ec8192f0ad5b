"""Who a caller is, by what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tideline.errors import Unauthenticated
from tideline.rpc.api_keys import PREFIX
from tideline.rpc.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tideline.rpc.api_keys import ApiKeys
    from tideline.rpc.tokens import Tokens

_SCHEME: Final = "bearer "


class Authentication:
    """All ways to prove who one is; those that are not set up are None, or empty."""

    def __init__(
        self, keys: ApiKeys | None, tokens: Tokens | None, certificates: Mapping[str, frozenset[str]], tenant: str
    ) -> None:
        """`certificates` are the roles of the subjects of client certificates, who all belong to `tenant`."""
        self._keys = keys
        self._tokens = tokens
        self._certificates = certificates
        self._tenant = tenant

    @property
    def by_certificates(self) -> bool:
        return bool(self._certificates)

    async def by_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> Identity | None:
        """Return who has the key or the token in `authorization`, None when there is none such.

        Raises `Unauthenticated`, whatever is wrong with it; a certificate does not make up for that.
        """
        shown = [value for name, value in metadata if name == "authorization"]
        if not shown:
            return None
        if len(shown) > 1 or not isinstance(shown[0], str) or not shown[0].lower().startswith(_SCHEME):
            raise Unauthenticated
        credential = shown[0][len(_SCHEME) :].strip()
        if credential.startswith(PREFIX):
            if self._keys is not None:
                return await self._keys.identify(credential)
        elif self._tokens is not None:
            return await self._tokens.identify(credential)
        raise Unauthenticated

    def by_certificate(self, connection: Mapping[str, Iterable[bytes]]) -> Identity:
        """Return whose certificate TLS has verified on this connection; raises `Unauthenticated` when that is nobody's.

        The subject is one of its URIs (as SPIFFE has it); the common name where it has no URI.
        """
        uris = [raw.decode(errors="replace") for raw in connection.get("peer_uri") or ()]
        names = uris or [raw.decode(errors="replace") for raw in connection.get("x509_common_name") or ()]
        for name in names:
            if (roles := self._certificates.get(name)) is not None:
                return Identity(f"certificate:{name}", roles, self._tenant)
        raise Unauthenticated

    def close(self) -> None:
        if self._keys is not None:
            self._keys.close()
