"""The outermost interceptor of a server: what is counted of each call, and the trace that it belongs to."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import aclosing, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import grpc

from tideline.rpc import metrics, tracing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from prometheus_client import Counter

    _Context = grpc.aio.ServicerContext[Any, Any]
    _Handler = grpc.RpcMethodHandler[Any, Any]

_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class _Method:
    """The metrics of a method, looked up once."""

    def __init__(self, path: str) -> None:
        self.name = path.lstrip("/")
        self.labels = self.service, self.method = tuple(self.name.split("/", 1))
        self.seconds = metrics.RPC_SECONDS.labels(*self.labels)
        self.in_flight = metrics.RPC_IN_FLIGHT.labels(*self.labels)
        self.received = metrics.RPC_MESSAGES.labels(*self.labels, "received")
        self.sent = metrics.RPC_MESSAGES.labels(*self.labels, "sent")
        self._handled: dict[str, Counter] = {}

    def handled(self, code: str) -> None:
        counter = self._handled.get(code)
        if counter is None:
            counter = self._handled[code] = metrics.RPC_HANDLED.labels(*self.labels, code)
        counter.inc()


class TelemetryInterceptor(grpc.aio.ServerInterceptor):
    """Counts calls and times them, and answers them as part of the caller's trace when traces are exported.

    Messages of streams are counted where they are read from the wire and put on it, which costs them nothing more.
    """

    def __init__(self) -> None:
        self._methods: dict[str, _Method] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of the called method, whatever its shape."""
        path = handler_call_details.method
        if path.startswith("/grpc."):
            return await continuation(handler_call_details)
        # The task is the call's own, so this holds to its end, for the interceptors further in too.
        tracing.arrived(handler_call_details.invocation_metadata)
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            # A name of the caller's choice is not for a label.
            metrics.RPC_HANDLED.labels("unknown", "unknown", "UNIMPLEMENTED").inc()
            return None
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = _Method(path)
        return _observed(handler, method)


@contextmanager
def _observing(method: _Method, context: _Context) -> Iterator[None]:
    code = "UNKNOWN"
    method.in_flight.inc()
    began = perf_counter()
    span = tracing.serve(method.name)
    try:
        yield
        code = _code(context, "OK")
    except asyncio.CancelledError:
        code = "DEADLINE_EXCEEDED" if context.time_remaining() == 0 else "CANCELLED"
        raise
    except BaseException:
        code = _code(context, "UNKNOWN")
        raise
    finally:
        method.seconds.observe(perf_counter() - began)
        method.in_flight.dec()
        method.handled(code)
        if span is not None:
            tracing.ended(span, code)


def _code(context: _Context, otherwise: str) -> str:
    code: Any = context.code()
    if code is None:
        return otherwise
    return code.name if isinstance(code, grpc.StatusCode) else _CODES.get(code, "UNKNOWN")


def _observed(handler: Any, method: _Method) -> _Handler:
    read, write = handler.request_deserializer, handler.response_serializer
    if not handler.response_streaming:
        answer = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def call(request: Any, context: _Context) -> Any:
            with _observing(method, context):
                return await answer(request, context)

        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(call, _counting(method.received, read), write)
        return grpc.unary_unary_rpc_method_handler(call, read, write)

    answer = handler.stream_stream if handler.request_streaming else handler.unary_stream

    # Not a generator: gRPC would have to go through it for every message.
    async def stream(request: Any, context: _Context) -> None:
        with _observing(method, context):
            if inspect.iscoroutinefunction(answer):
                await answer(request, context)
                return
            async with aclosing(answer(request, context)) as responses:
                async for response in responses:
                    await context.write(response)

    write = _counting(method.sent, write)
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, _counting(method.received, read), write)
    return grpc.unary_stream_rpc_method_handler(stream, read, write)


def _counting(counter: Counter, convert: Any) -> Any:
    def counted(message: Any) -> Any:
        counter.inc()
        return convert(message)

    return counted
