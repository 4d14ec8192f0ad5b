"""Connections to the services: encrypted, and with what proves who calls, or neither."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from tideline.rpc import propagation
from tideline.rpc.renewal import Latest, RenewedAioChannel, RenewedChannel

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to reach a service, as files; nothing by default, which is enough on one's own machine.

    `ca_file` are the CA certificates to know the service by, or "system" for those that gRPC brings. `cert_file` and
    `key_file` are the client's own certificate. `token_file` holds an API key or a token; it is read again for every
    call, so that it may be renewed; certificates and key are read again when they change. Whatever is set, the
    connection is encrypted: a token never travels in the clear.
    """

    ca_file: str = ""
    cert_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Access:
        """Return what the flags of `tideline.rpc.flags` say."""
        return cls(arguments.ca_file, arguments.cert_file, arguments.key_file, arguments.token_file)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return what a channel is made with, None for one that is not encrypted; raises `OSError` without a file."""
        if not (self.ca_file or self.cert_file or self.token_file):
            return None
        roots = Path(self.ca_file).read_bytes() if self.ca_file not in ("", SYSTEM) else None
        own = [path.read_bytes() if path else None for path in (self.key_file, self.cert_file)]
        encrypted = grpc.ssl_channel_credentials(roots, *own)
        if self.token_file is None:
            return encrypted
        bearer = grpc.metadata_call_credentials(_Bearer(self.token_file), name="bearer")
        return grpc.composite_channel_credentials(encrypted, bearer)

    def channel(self, address: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """Prepare a connection; it is made by the first call."""

        def make() -> grpc.Channel:
            if (credentials := self.credentials()) is None:
                return grpc.insecure_channel(address, options=options)
            return grpc.secure_channel(address, credentials, options=options)

        files = self._files()
        return propagation.carrying(RenewedChannel(Latest(files, make, self._check)) if files else make())

    def aio_channel(
        self,
        address: str,
        options: Sequence[tuple[str, Any]] = (),
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    ) -> grpc.aio.Channel:
        """Prepare a connection for asyncio; it is made by the first call."""
        carrying = [*interceptors, *propagation.interceptors()]

        def make() -> grpc.aio.Channel:
            if (credentials := self.credentials()) is None:
                return grpc.aio.insecure_channel(address, options=options, interceptors=carrying)
            return grpc.aio.secure_channel(address, credentials, options=options, interceptors=carrying)

        files = self._files()
        return RenewedAioChannel(Latest(files, make, self._check)) if files else make()

    def _files(self) -> list[Path]:
        """Return what a connection is made of."""
        authority = Path(self.ca_file) if self.ca_file not in ("", SYSTEM) else None
        return [path for path in (authority, self.cert_file, self.key_file) if path is not None]

    def _check(self) -> None:
        """Raise `OSError` when the files are no certificates, or the key is not that of the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file not in ("", SYSTEM):
            context.load_verify_locations(self.ca_file)
        if self.cert_file is not None:
            # Without a password of ours it would be asked for.
            context.load_cert_chain(self.cert_file, self.key_file, password="")


NOTHING: Final = Access()


class _Bearer(grpc.AuthMetadataPlugin):
    def __init__(self, token_file: Path) -> None:
        self._file = token_file

    def __call__(self, _: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        # In a thread of gRPC's, so that reading holds up nobody.
        try:
            token = self._file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            callback((), error)
        else:
            callback((("authorization", f"Bearer {token}"),), None)
