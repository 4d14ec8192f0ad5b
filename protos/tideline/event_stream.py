"""Events over one stream that outlives broken connections."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from tideline.clickstream.v1.session_service_pb2 import StreamEventsRequest, StreamEventsResponse
from tideline.rpc.decoding import MAX_MESSAGE_BYTES
from tideline.rpc.details import reason_of, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tideline.clickstream.v1.event_pb2 import Event, EventOutcome
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub

_Answer = asyncio.Future[StreamEventsResponse]

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_OF_ONE_MESSAGE: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,
)
"""What is wrong with one message: answers come in order, so it is the first one that is not answered."""
_OF_THE_CONNECTION: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)


class EventStream:
    """Pushes events of any sessions over one `StreamEvents`; an asynchronous context manager.

    When the stream breaks, it is opened again and what was not answered is sent again: events that had been stored come
    back as duplicates, so each is there once. Leaving the block waits for the answers that are missing.
    """

    def __init__(self, sessions: SessionServiceAsyncStub, *, unanswered: int = 64, patience_s: float = 300.0) -> None:
        """Keep at most `unanswered` messages under way; give them up when none is answered for `patience_s` seconds."""
        self._sessions = sessions
        self._patience_s = patience_s
        self._room = asyncio.Semaphore(unanswered)
        self._waiting: dict[int, tuple[StreamEventsRequest, _Answer]] = {}
        self._sequence = 0
        self._news = asyncio.Event()
        self._answered = asyncio.Event()
        self._one_by_one = False
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._worker is not None  # noqa: S101 - it was entered
        if kind is None:
            await asyncio.gather(*(answer for _, answer in self._waiting.values()), return_exceptions=True)
        self._worker.cancel()
        await asyncio.wait([self._worker])
        for waiting in self._waiting.values():
            waiting[1].cancel()

    async def push(
        self, session_id: str, events: Iterable[Event], *, allow_missing: bool = False, historical: bool = False
    ) -> Sequence[EventOutcome]:
        """Send events of a session and return the outcome of each once they are stored durably.

        Waits while too many messages are under way. Raises `grpc.aio.AioRpcError` when the service refuses the message
        as a whole, or when it cannot be reached for longer than the patience, and `ValueError` for more than 64 MiB.
        Cancelling it does not call back what is under way.
        """
        await self._room.acquire()
        self._sequence += 1
        request = StreamEventsRequest(
            sequence=self._sequence,
            session_id=session_id,
            events=events,
            allow_missing=allow_missing,
            historical=historical,
        )
        if request.ByteSize() > MAX_MESSAGE_BYTES:  # the transport would end the stream for all
            self._room.release()
            raise ValueError(f"a message has at most {MAX_MESSAGE_BYTES} bytes")
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._waiting[self._sequence] = request, answer
        self._news.set()
        if self._worker is None or self._worker.done():
            self._fail(RuntimeError("the stream is not open"))
        return (await answer).outcomes

    async def _work(self) -> None:
        try:
            await self._streams()
        except Exception as error:  # noqa: BLE001 - those who wait for answers hear of it
            self._fail(error)

    async def _streams(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            began = time.monotonic()
            first = next(iter(self._waiting))
            failure = await self._one_stream()
            if next(iter(self._waiting), None) != first:
                pause_s, since = _FIRST_PAUSE_S, time.monotonic()
            elif pause_s == _FIRST_PAUSE_S:
                since = began
            # A client of grpc.aio that writes while a stream ends may not learn why. One that does not write does.
            self._one_by_one = next(iter(self._waiting), None) == first
            if failure is not None and not _is_broken(failure):
                self._fail(failure, only_first=failure.code() in _OF_ONE_MESSAGE)
            elif self._waiting:
                if failure is not None and time.monotonic() - since > self._patience_s:
                    self._fail(failure)
                told_s = retry_after_s(failure) if failure is not None else None
                await asyncio.sleep((told_s or pause_s) * random.uniform(1, 1.5))  # noqa: S311
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _one_stream(self) -> grpc.aio.AioRpcError | None:
        """Send what waits, and what comes, until the stream ends; returns why it did if it did not end in order."""
        call = self._sessions.StreamEvents()
        writer = asyncio.create_task(self._write(call))
        try:
            while True:
                answer = await call.read()
                if not isinstance(answer, StreamEventsResponse):
                    return None
                self._take(answer)
        except grpc.aio.AioRpcError as failure:
            return failure
        finally:
            writer.cancel()
            call.cancel()
            await asyncio.wait([writer])

    async def _write(self, call: Any) -> None:
        sent = 0
        try:
            while True:
                self._news.clear()
                for sequence, (request, _) in tuple(self._waiting.items()):
                    if sequence > sent:
                        sent = sequence
                        self._answered.clear()
                        await call.write(request)
                        if self._one_by_one:
                            await self._answered.wait()
                await self._news.wait()
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the reader hears why

    def _take(self, answer: StreamEventsResponse) -> None:
        _, waiting = self._waiting.pop(answer.sequence)
        self._room.release()
        self._answered.set()
        self._one_by_one = False
        if not waiting.done():
            waiting.set_result(answer)

    def _fail(self, error: BaseException, *, only_first: bool = False) -> None:
        for sequence in tuple(self._waiting)[: 1 if only_first else None]:
            _, waiting = self._waiting.pop(sequence)
            self._room.release()
            if not waiting.done():
                waiting.set_exception(error)


def _is_broken(failure: grpc.aio.AioRpcError) -> bool:
    """Whether a stream that failed like this is worth opening again."""
    if retry_after_s(failure) is not None:
        return True
    return not reason_of(failure) and failure.code() in _OF_THE_CONNECTION
