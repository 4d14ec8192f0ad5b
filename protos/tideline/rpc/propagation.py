"""Client interceptors that take the present trace along to the service that is called."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from tideline.rpc import tracing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opentelemetry.trace import Span

    _Details = grpc.aio.ClientCallDetails
    _Go = Callable[[_Details, Any], Awaitable[Any]]

# The loop keeps tasks by weak references only.
_ending: set[asyncio.Task[None]] = set()


def interceptors() -> list[grpc.aio.ClientInterceptor]:
    """Return what makes the calls of a channel part of the trace they are made in; nothing when none is exported.

    A call outside of any trace is left as it is.
    """
    return (
        [_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()] if tracing.is_on() or tracing.adopt() else []
    )


async def _traced(go: _Go, details: _Details, request: Any) -> Any:
    begun = tracing.begin_call(_text(details.method).lstrip("/"))
    if begun is None:
        return await go(details, request)
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    for key, value in tracing.carried(begun).items():
        metadata.add(key, value)
    carrying = grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )
    call = await go(carrying, request)
    ending = asyncio.create_task(_end(begun, call))
    _ending.add(ending)
    ending.add_done_callback(_ending.discard)
    return call


async def _end(begun: Span, call: Any) -> None:
    code = "CANCELLED"
    try:
        code = (await call.code()).name
    finally:
        tracing.ended(begun, code)


def _text(method: Any) -> str:
    return method.decode() if isinstance(method, bytes) else str(method)


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await _traced(continuation, client_call_details, request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await _traced(continuation, client_call_details, request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await _traced(continuation, client_call_details, request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await _traced(continuation, client_call_details, request_iterator)


class _Carrying(NamedTuple):
    method: str
    timeout: float | None
    metadata: list[tuple[str, str | bytes]]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Blocking(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """The same for channels that block."""

    def _call(self, go: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        begun = tracing.begin_call(_text(details.method).lstrip("/"))
        if begun is None:
            return go(details, request)
        carrying = _Carrying(
            details.method,
            details.timeout,
            [*(details.metadata or ()), *tracing.carried(begun).items()],
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        call = go(carrying, request)
        call.add_done_callback(lambda done: tracing.ended(begun, done.code().name))
        return call

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)


def carrying(channel: grpc.Channel) -> grpc.Channel:
    """Make the calls of a channel that blocks part of the trace they are made in; see `interceptors`."""
    on = tracing.is_on() or tracing.adopt()
    return grpc.intercept_channel(channel, _Blocking()) if on else channel
