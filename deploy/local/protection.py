"""Throwaway certificates and keys, to try what the services do to protect themselves."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tideline.rpc import api_keys
from tideline.rpc.channels import Access

if TYPE_CHECKING:
    from pathlib import Path

LASTS: Final = timedelta(days=30)


class Protection:
    """A folder with what makes a stack secure.

    `ca.pem` is what clients know the services by, `keys` the hashes of all API keys; `internal.key` is the key that the
    services call each other with, `admin.key` one that may do everything.
    """

    def __init__(self, folder: Path) -> None:
        """Make new certificates, and the keys that are missing: those that were added are found again."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ca = folder / "ca.pem"
        self.keys = folder / "keys"
        self._certificate, self._key = folder / "server.pem", folder / "server-key.pem"
        self._sign()
        if not self.keys.exists():
            for old in folder.glob("*.key"):
                old.unlink()
        self.internal, self.admin = (self._api_key(folder, role) for role in ("internal", "admin"))
        self.access = Access(ca_file=str(self.ca), token_file=self.admin)

    def settings(self, other: str) -> dict[str, str]:
        """The settings of a service that calls the `other` one."""
        return {
            "TLS_CERT_FILE": str(self._certificate),
            "TLS_KEY_FILE": str(self._key),
            "AUTH_KEYS_FILE": str(self.keys),
            f"{other.upper()}_CA_FILE": str(self.ca),
            f"{other.upper()}_TOKEN_FILE": str(self.internal),
        }

    def _api_key(self, folder: Path, role: str) -> Path:
        file = folder / f"{role}.key"
        if not file.exists():
            shown, key = api_keys.create(f"local-{role}", frozenset({role}), "")
            _write(file, shown)
            with self.keys.open("a", encoding="utf-8") as keys:
                keys.write(key.line())
        return file

    def _sign(self) -> None:
        """Sign a certificate of this machine, by a CA whose key is forgotten at once."""
        signing, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority, server = _named("Tideline, local and throwaway"), _named("localhost")
        own = x509.BasicConstraints(ca=True, path_length=0)
        self.ca.write_bytes(_pem(_unsigned(authority, authority, signing).add_extension(own, critical=True), signing))
        addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses])
        unsigned = _unsigned(server, authority, key).add_extension(names, critical=False)
        self._certificate.write_bytes(_pem(unsigned, signing))
        _write(self._key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _unsigned(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LASTS)
    )


def _pem(certificate: x509.CertificateBuilder, signing: ec.EllipticCurvePrivateKey) -> bytes:
    return certificate.sign(signing, hashes.SHA256()).public_bytes(Encoding.PEM)


def _write(file: Path, secret: str) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(secret, encoding="utf-8")
