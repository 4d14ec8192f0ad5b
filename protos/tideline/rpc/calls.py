"""Calls under way: none is begun for nobody, and all are told when the server stops.

When a server stops, streams that would go on for as long as their client likes are ended at once, in order: what was
taken is answered first. All other calls may finish; those that do not by the end of the grace are ended, too. Either
way the client is told SERVER_STOPPING, which is worth repeating on another replica.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import grpc

from tideline.errors import DeadlineExceeded, ServerStopping, TidelineError
from tideline.rpc import deadline, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
    from contextlib import AbstractContextManager

    _Context = grpc.aio.ServicerContext[Any, Any]
    _Handler = grpc.RpcMethodHandler[Any, Any]

OF_THE_GRACE: Final = 0.8
"""After this part of the grace calls are ended, so that their clients still hear why."""
AS_GOOD_AS_NEVER_S: Final = 20 * 86_400.0
"""A deadline beyond this is none: databases count milliseconds in 32 bits, which end after 24 days."""
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"


class CallsInterceptor(grpc.aio.ServerInterceptor):
    """Knows the calls under way.

    `open_ended` are methods (`/package.Service/Method`) whose responses go on for as long as the client likes. `within`
    limits what a call does in a database to the seconds that its caller still waits. `check` raises `TidelineError`
    while calls would wait in vain: for a database that has been away for long.
    """

    def __init__(
        self,
        *,
        open_ended: Collection[str] = (),
        within: Callable[[float], AbstractContextManager[object]] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._open_ended = frozenset(open_ended) | {HEALTH_WATCH}
        self._within = within or (lambda _: nullcontext())
        self._check = check
        self._idle: set[asyncio.Task[Any]] = set()
        """What only waits for a client to say more, or for news to tell it."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def stop(self, grace_s: float) -> None:
        """End the streams that would go on, and all calls when most of the grace is over."""
        self._stopping = True
        for task in tuple(self._idle):
            task.cancel()
        await asyncio.sleep(grace_s * OF_THE_GRACE)
        for task in tuple(self._tasks):
            task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of the called method, whatever its shape."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.response_streaming:
            behaviour = self._reading(handler.stream_stream) if handler.request_streaming else handler.unary_stream
            open_ended = handler_call_details.method in self._open_ended
            # The health service writes its responses rather than yielding them.
            wrap: Callable[..., Any] = self._answering if inspect.iscoroutinefunction(behaviour) else self._streaming
            wrapped = wrap(behaviour, open_ended=open_ended)
        else:
            wrapped = self._answering(handler.stream_unary if handler.request_streaming else handler.unary_unary)
        make = _MAKERS[bool(handler.request_streaming), bool(handler.response_streaming)]
        wrapper: _Handler = make(wrapped, handler.request_deserializer, handler.response_serializer)
        return wrapper

    def _answering(
        self, behaviour: Callable[[Any, _Context], Awaitable[Any]], *, open_ended: bool = False
    ) -> Callable[[Any, _Context], Any]:
        async def call(request: Any, context: _Context) -> Any:
            remaining = await self._begin(context)
            with self._under_way(idle=open_ended):
                try:
                    if remaining is None:
                        return await behaviour(request, context)
                    with deadline.within(remaining), self._within(remaining):
                        return await behaviour(request, context)
                except asyncio.CancelledError:
                    await self._say_why(context)
                    raise

        return call

    def _streaming(
        self, behaviour: Callable[[Any, _Context], AsyncIterator[Any]], *, open_ended: bool
    ) -> Callable[[Any, _Context], AsyncIterator[Any]]:
        async def call(request: Any, context: _Context) -> AsyncIterator[Any]:
            remaining = await self._begin(context)
            if remaining is not None:
                # Not as a block: it may be left in another context, where what a stream leaves behind is cleaned up.
                deadline.begin(remaining)
                self._within(remaining).__enter__()
            with self._under_way(idle=open_ended):
                try:
                    async for response in behaviour(request, context):
                        yield response
                except asyncio.CancelledError:
                    await self._say_why(context)
                    raise

        return call

    def _reading(
        self, behaviour: Callable[[Any, _Context], AsyncIterator[Any]]
    ) -> Callable[[Any, _Context], AsyncIterator[Any]]:
        def call(requests: AsyncIterator[Any], context: _Context) -> AsyncIterator[Any]:
            return behaviour(_Requests(requests, self._idle), context)

        return call

    async def _begin(self, context: _Context) -> float | None:
        """Return for how many seconds the caller still waits, None without a deadline; answers what is in vain."""
        remaining = context.time_remaining()
        try:
            if remaining is not None and remaining <= 0:
                raise DeadlineExceeded("the deadline was over before the call was begun")
            if self._check is not None:
                self._check()
        except TidelineError as error:
            await status.abort(context, error)
        return remaining if remaining is not None and remaining < AS_GOOD_AS_NEVER_S else None

    @contextmanager
    def _under_way(self, *, idle: bool = False) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler is run as a task
        groups = (self._tasks, self._idle) if idle else (self._tasks,)
        for group in groups:
            group.add(task)
        try:
            yield
        finally:
            for group in groups:
                group.discard(task)

    async def _say_why(self, context: _Context) -> None:
        """Abort a call that was ended because of the stop; one whose client went away is none of these."""
        if self._stopping and not context.cancelled() and not context.done():
            await status.abort(context, ServerStopping("the server is stopping"))


class _Requests:
    """The messages of a stream; whoever waits for the next one is among the `idle`.

    It hands out what gRPC awaits and not a coroutine around it: a message costs nothing more.
    """

    def __init__(self, requests: AsyncIterator[Any], idle: set[asyncio.Task[Any]]) -> None:
        self._next = aiter(requests).__anext__
        self._idle = idle
        self._reader: asyncio.Task[Any] | None = None

    def __aiter__(self) -> _Requests:
        return self

    def __anext__(self) -> Awaitable[Any]:
        if self._reader is None:
            self._reader = reader = asyncio.current_task()
            assert reader is not None  # noqa: S101 - a handler reads in a task
            self._idle.add(reader)
            reader.add_done_callback(self._idle.discard)
        return self._next()


_MAKERS: Final[dict[tuple[bool, bool], Callable[..., _Handler]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
