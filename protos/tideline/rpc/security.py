"""Who may reach a service, and who may call what: from settings to what a server is made with."""

from __future__ import annotations

import inspect
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from tideline.errors import Misconfigured, PermissionDenied, TidelineError, Unauthenticated
from tideline.rpc import authorisation, identity, status, tls
from tideline.rpc.api_keys import ApiKeys
from tideline.rpc.authentication import Authentication
from tideline.rpc.exposure import is_loopback
from tideline.rpc.rate_limit import RateLimit
from tideline.rpc.signing_keys import KeysOfFile, KeysOfUrl
from tideline.rpc.tokens import TokenRules, Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tideline.rpc.identity import Identity
    from tideline.rpc.settings import SecuritySettings
    from tideline.rpc.signing_keys import SigningKeys

    _Context = grpc.aio.ServicerContext[Any, Any]
    _Handler = grpc.RpcMethodHandler[Any, Any]

_OPEN: Final = "/grpc."
"""Health, and reflection where it is set up: for everybody."""
_COUNT: Final = {False: "unary", True: "stream"}


class Security:
    """What protects one server."""

    def __init__(self, settings: SecuritySettings) -> None:
        """Read keys and certificates; raises `Misconfigured` when one of them is bad."""
        self._authentication = authentication(settings)
        reflection = settings.reflection
        self.reflection = self._authentication is None if reflection is None else reflection
        self.credentials: grpc.ServerCredentials | None = None
        if settings.tls_cert_file is not None and settings.tls_key_file is not None:
            self.credentials = tls.server_credentials(
                settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
            )
        limit = None
        if settings.rate_limit_per_second is not None:
            limit = RateLimit(settings.rate_limit_per_second, settings.rate_limit_burst)
        self.interceptor = SecurityInterceptor(self._authentication, limit, settings.tenant)

    def close(self) -> None:
        if self._authentication is not None:
            self._authentication.close()


def authentication(settings: SecuritySettings) -> Authentication | None:
    """Prepare what settings name to tell callers by, None when they name nothing."""
    if not settings.authenticates:
        return None
    keys = tokens = None
    if settings.auth_keys_file is not None:
        keys = ApiKeys(settings.auth_keys_file, settings.auth_keys_remembered.total_seconds())
    if settings.auth_jwks:
        rules = TokenRules(
            audience=settings.auth_jwt_audience,
            issuer=settings.auth_jwt_issuer,
            algorithms=frozenset(settings.auth_jwt_algorithms),
            skew=settings.auth_jwt_skew,
            roles_claim=settings.auth_jwt_roles_claim,
            tenant_claim=settings.auth_jwt_tenant_claim,
        )
        tokens = Tokens(rules, _signing_keys(settings))
    return Authentication(keys, tokens, settings.auth_certificate_roles, settings.tenant)


def _signing_keys(settings: SecuritySettings) -> SigningKeys:
    if "://" not in settings.auth_jwks:
        return KeysOfFile(Path(settings.auth_jwks))
    return KeysOfUrl(
        settings.auth_jwks,
        ca_file=settings.auth_jwks_ca_file,
        max_age=settings.auth_jwks_max_age.total_seconds(),
        min_interval=settings.auth_jwks_min_interval.total_seconds(),
    )


def refuse_exposure(settings: SecuritySettings, listen: str) -> None:
    """Raise `Misconfigured` when other machines reach `listen`, and neither TLS nor authentication would stop them."""
    prefix = settings.model_config.get("env_prefix", "")
    missing = []
    if settings.tls_cert_file is None:
        missing.append(f"TLS ({prefix}TLS_CERT_FILE, {prefix}TLS_KEY_FILE)")
    if not settings.authenticates:
        ways = "AUTH_KEYS_FILE", "AUTH_JWKS", "AUTH_CERTIFICATE_ROLES"
        missing.append(f"authentication (one of {', '.join(prefix + way for way in ways)})")
    if missing and not is_loopback(listen):
        raise Misconfigured(
            f"{prefix}LISTEN={listen} is reached by other machines, without {' and without '.join(missing)}; "
            "set what is missing, listen on 127.0.0.1, or start with --insecure"
        )


class SecurityInterceptor(grpc.aio.ServerInterceptor):
    """Lets calls begin whose callers are known, may make them, and do not make too many; sets their identity.

    All of that happens before the call is handed on, so it costs nothing per message. Only callers who show nothing but
    a certificate are looked at one step later: gRPC tells of the connection no sooner.
    """

    def __init__(self, authentication: Authentication | None, limit: RateLimit | None, tenant: str) -> None:
        self._authentication = authentication
        self._limit = limit
        self._tenant = tenant

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Hand a call on, or have it refused."""
        method = handler_call_details.method
        # What is not there is not there for anybody, and leaves no trace: its name is of the caller's choice.
        if method.startswith(_OPEN) or (
            not authorisation.allowed_to(method) and await continuation(handler_call_details) is None
        ):
            return await continuation(handler_call_details)
        try:
            caller = await self._caller(handler_call_details)
            if caller is not None:
                self._admit(caller, method)
        except Exception as error:  # noqa: BLE001 - answered as all failures are
            return _refusal(error)
        handler = await continuation(handler_call_details)
        if handler is None or caller is not None:
            return handler
        return _after(lambda context: self._admit_by_certificate(context, method), handler)

    async def _caller(self, details: grpc.HandlerCallDetails) -> Identity | None:
        """Return who calls, None when only the certificate can tell."""
        if self._authentication is None:
            return replace(identity.ANYBODY, tenant=self._tenant)
        caller = await self._authentication.by_metadata(details.invocation_metadata or ())
        if caller is None and not self._authentication.by_certificates:
            raise Unauthenticated
        return caller

    def _admit_by_certificate(self, context: _Context, method: str) -> None:
        if self._authentication is None:
            raise Unauthenticated
        self._admit(self._authentication.by_certificate(context.auth_context()), method)

    def _admit(self, caller: Identity, method: str) -> None:
        # Data of other tenants are in other databases, which this service does not open: that, and this line, keep
        # tenants apart in whatever is called.
        if caller.tenant != self._tenant:
            raise PermissionDenied("the caller belongs to another tenant")
        authorisation.check(caller, method)
        if self._limit is not None:
            self._limit.take(caller.subject)
        identity.assume(caller)


def _refusal(error: Exception) -> _Handler:
    async def refuse(_: AsyncIterator[Any], context: _Context) -> None:
        await status.abort(context, error)

    # Nothing is read or written, so that this stands for a method of any shape.
    return grpc.stream_stream_rpc_method_handler(refuse)


def _after(admit: Callable[[_Context], None], handler: Any) -> _Handler:
    """Let a call begin once `admit` has let it."""
    shape = f"{_COUNT[bool(handler.request_streaming)]}_{_COUNT[bool(handler.response_streaming)]}"
    inner = getattr(handler, shape)

    async def admitted(context: _Context) -> None:
        try:
            admit(context)
        except TidelineError as error:
            await status.abort(context, error)

    async def one(request: Any, context: _Context) -> Any:
        await admitted(context)
        return await inner(request, context)

    async def many(request: Any, context: _Context) -> AsyncIterator[Any]:
        await admitted(context)
        async with aclosing(inner(request, context)) as answers:
            async for answer in answers:
                yield answer

    make: Callable[..., _Handler] = getattr(grpc, f"{shape}_rpc_method_handler")
    behaviour = many if inspect.isasyncgenfunction(inner) else one
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
