"""The one interceptor of a server: checks what comes in, and answers failures with a status."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from tideline.errors import DeadlineExceeded, DependencyUnavailable, TidelineError
from tideline.rpc import deadline, status
from tideline.rpc.decoding import decoder
from tideline.rpc.validation import first_violation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from google.protobuf.message import Message

    _Context = grpc.aio.ServicerContext[Any, Any]
    _Handler = grpc.RpcMethodHandler[Any, Any]
    _Answer = Callable[[_Context, BaseException], Awaitable[None]]
    _Check = Callable[[Message | TidelineError], Message]

    PlainCheck = Callable[[Any], bool]


class ContractInterceptor(grpc.aio.ServerInterceptor):
    """Applies the rules in the protos to every request message, and turns errors into statuses.

    An error of one of the types `unavailable` means that a database or the other service does not answer.
    `asyncio.CancelledError` passes through: the caller went away, and nobody reads an answer.
    """

    def __init__(
        self, unavailable: tuple[type[Exception], ...] = (), plainly_valid: Mapping[type, PlainCheck] | None = None
    ) -> None:
        """Messages of which `plainly_valid` says, by their type, that they surely keep the rules are not held to them.

        Applying rules takes a copy of the whole message, which is dear where it brings thousands of items.
        """
        self._unavailable = unavailable
        self._plainly_valid = plainly_valid or {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of the called method, whatever its shape."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        wrap = _WRAPPERS[bool(handler.request_streaming), bool(handler.response_streaming)]
        return wrap(handler, self._check, self._answer)

    async def _answer(self, context: _Context, error: BaseException) -> None:
        if isinstance(error, self._unavailable):
            unavailable = DependencyUnavailable("a database or another service does not answer")
            unavailable.__cause__ = error
            error = unavailable
        if isinstance(error, DependencyUnavailable) and deadline.over():
            # It was given no more time than the caller had.
            late = DeadlineExceeded("the deadline was over before a database or another service had answered")
            late.__cause__ = error
            error = late
        await status.abort(context, error)

    def _check(self, request: Message | TidelineError) -> Message:
        if isinstance(request, TidelineError):
            raise request
        is_plain = self._plainly_valid.get(type(request))
        if (is_plain is None or not is_plain(request)) and (violation := first_violation(request)) is not None:
            raise violation
        return request


async def _check_all(requests: AsyncIterator[Message | TidelineError], check: _Check) -> AsyncIterator[Message]:
    async for request in requests:
        yield check(request)


async def _unary(call: Callable[[], Awaitable[Any]], context: _Context, answer: _Answer) -> Any:
    try:
        return await call()
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except BaseException as error:  # noqa: BLE001
        await answer(context, error)


async def _stream(call: Callable[[], AsyncIterator[Any]], context: _Context, answer: _Answer) -> AsyncIterator[Any]:
    try:
        async for response in call():
            yield response
    except (asyncio.CancelledError, GeneratorExit, grpc.aio.AbortError):
        raise
    except BaseException as error:  # noqa: BLE001
        await answer(context, error)


def _unary_unary(handler: Any, check: _Check, answer: _Answer) -> _Handler:
    async def call(request: Message | TidelineError, context: _Context) -> Any:
        return await _unary(lambda: handler.unary_unary(check(request), context), context, answer)

    return grpc.unary_unary_rpc_method_handler(call, decoder(handler.request_deserializer), handler.response_serializer)


def _unary_stream(handler: Any, check: _Check, answer: _Answer) -> _Handler:
    async def call(request: Message | TidelineError, context: _Context) -> AsyncIterator[Any]:
        async for response in _stream(lambda: handler.unary_stream(check(request), context), context, answer):
            yield response

    return grpc.unary_stream_rpc_method_handler(
        call, decoder(handler.request_deserializer), handler.response_serializer
    )


def _stream_unary(handler: Any, check: _Check, answer: _Answer) -> _Handler:
    async def call(requests: AsyncIterator[Message | TidelineError], context: _Context) -> Any:
        return await _unary(lambda: handler.stream_unary(_check_all(requests, check), context), context, answer)

    return grpc.stream_unary_rpc_method_handler(
        call, decoder(handler.request_deserializer), handler.response_serializer
    )


def _stream_stream(handler: Any, check: _Check, answer: _Answer) -> _Handler:
    async def call(requests: AsyncIterator[Message | TidelineError], context: _Context) -> AsyncIterator[Any]:
        async for response in _stream(
            lambda: handler.stream_stream(_check_all(requests, check), context), context, answer
        ):
            yield response

    return grpc.stream_stream_rpc_method_handler(
        call, decoder(handler.request_deserializer), handler.response_serializer
    )


_WRAPPERS: dict[tuple[bool, bool], Callable[[Any, _Check, _Answer], _Handler]] = {
    (False, False): _unary_unary,
    (False, True): _unary_stream,
    (True, False): _stream_unary,
    (True, True): _stream_stream,
}
