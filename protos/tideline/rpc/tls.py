"""TLS of a server, its certificates taken from files that may be changed while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tideline.errors import Misconfigured
from tideline.rpc.files import Watched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def server_credentials(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """Prepare TLS from PEM files; with `client_ca`, only clients with a certificate from there are talked to.

    Every connection begins with what the files hold by then. Raises `Misconfigured` when they are not fit for it now.
    """
    paths = (certificate, key) if client_ca is None else (certificate, key, client_ca)
    files = Watched(paths, _configuration)
    used = files.current()

    def changed() -> Any:  # None when nothing has changed, which the stubs of grpc do not know
        nonlocal used
        latest = files.current()
        if latest is used:
            return None
        used = latest
        return latest

    return grpc.dynamic_ssl_server_credentials(used, changed, require_client_authentication=client_ca is not None)


def _configuration(held: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
    certificate, key, *client_ca = held
    try:
        own = x509.load_pem_x509_certificates(certificate)[0]
        private = load_pem_private_key(key, password=None)
        for authorities in client_ca:
            x509.load_pem_x509_certificates(authorities)
    # The text of these may quote the key.
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Misconfigured("not certificates and a key without a password, in PEM") from None
    if own.public_key() != private.public_key():
        raise Misconfigured("the key is not that of the certificate")
    return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca[0] if client_ca else None)
