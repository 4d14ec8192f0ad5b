"""Types that the settings of both services are made of."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tideline.errors import Misconfigured
from tideline.rpc.tenants import is_tenant


def _in_seconds(value: Any) -> Any:
    """Take a bare number for seconds: in the environment it is a text, which would have to be ISO 8601."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Positive = Annotated[int, Field(gt=0)]
Time = Annotated[timedelta, BeforeValidator(_in_seconds), Field(ge=timedelta(0))]
PositiveTime = Annotated[timedelta, BeforeValidator(_in_seconds), Field(gt=timedelta(0))]
LONGEST_DATABASE: Final = 63
"""As MongoDB has it."""

Role = Literal["client", "internal", "admin"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Those with a public key to verify by: with a shared secret, whoever verifies tokens could make them."""


class SecuritySettings(BaseSettings):
    """Who may reach a service and call it. Files are read again when they change."""

    # What is wrong with a setting is told without its value, which may be a secret.
    model_config = SettingsConfigDict(hide_input_in_errors=True)

    tls_cert_file: Path | None = None
    """The certificate of the service, with those between it and its CA, as PEM; nothing is encrypted when unset."""
    tls_key_file: Path | None = None
    """The key of the certificate."""
    tls_client_ca_file: Path | None = None
    """CA certificates; when set, only clients who have a certificate from there can connect."""

    auth_keys_file: Path | None = None
    """The hashes of API keys, as `tideline key create` writes them; a key whose line is removed is refused at once."""
    auth_keys_remembered: PositiveTime = timedelta(minutes=5)
    """How long a key that was verified is not verified again; it is looked up in the file all the same."""
    auth_jwks: str = ""
    """The public keys that tokens are signed with: a JSON Web Key Set, as a file or its https URL; none when empty."""
    auth_jwks_ca_file: Path | None = None
    """CA certificates for that URL; those of the system when unset."""
    auth_jwks_max_age: PositiveTime = timedelta(minutes=10)
    """How old keys from a URL may grow before they are fetched again."""
    auth_jwks_min_interval: PositiveTime = timedelta(seconds=30)
    """How often they are fetched at most, however many tokens name keys that are not among them."""
    auth_jwt_audience: str = ""
    """The `aud` of tokens for this service."""
    auth_jwt_issuer: str = ""
    """The `iss` of tokens that are believed."""
    auth_jwt_algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    """What tokens may be signed with, as a JSON list."""
    auth_jwt_skew: Time = timedelta(seconds=30)
    """How far the clock of the issuer may be off."""
    auth_jwt_roles_claim: str = "roles"
    """The claim with the roles, a list or a text; with dots for one inside others: `realm_access.roles`."""
    auth_jwt_tenant_claim: str = "tenant"
    """The claim with the tenant."""
    auth_certificate_roles: dict[str, frozenset[Role]] = {}
    """The roles of clients who show a certificate and nothing else, as JSON: {"spiffe://shop/backend": ["client"]}.

    A name is a URI of the certificate; its common name when it has no URI.
    """

    tenant: str = ""
    """Whose data the service keeps, in a database of its own: it serves this tenant and nobody else. If empty, it
    serves those whose keys and tokens name no tenant."""
    rate_limit_per_second: Annotated[float, Field(gt=0)] | None = None
    """How many calls a second one caller may begin in the long run; any number when unset."""
    rate_limit_burst: Positive = 100
    """How many it may begin at once."""
    reflection: bool | None = None
    """Whether the server tells its contract to whoever asks; when unset, only if it lets everybody call it."""

    @property
    def authenticates(self) -> bool:
        """Whether callers have to say who they are."""
        return self.auth_keys_file is not None or bool(self.auth_jwks) or bool(self.auth_certificate_roles)

    def of_tenant(self, database: str) -> str:
        """Return what the database is called for the tenant; raises `Misconfigured` when that is too long."""
        name = f"{database}_t_{self.tenant}" if self.tenant else database
        if len(name.encode()) > LONGEST_DATABASE:
            raise Misconfigured(f"the database {name} has a name of more than {LONGEST_DATABASE} bytes")
        return name

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.tenant and not is_tenant(self.tenant):
            raise ValueError("tenant has up to 32 lower-case letters, digits and `-`, which does not come first")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file need each other")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file")
        if self.auth_certificate_roles and self.tls_client_ca_file is None:
            raise ValueError("auth_certificate_roles needs tls_client_ca_file")
        if self.auth_jwks and not (self.auth_jwt_audience and self.auth_jwt_issuer and self.auth_jwt_algorithms):
            raise ValueError("auth_jwks needs auth_jwt_audience, auth_jwt_issuer and auth_jwt_algorithms")
        return self
