"""Channels that are made anew when the files change that they are made of: certificates that are renewed, or replaced.

Calls under way go on over the connection that they were begun on; the next one takes a new one. Who calls is proved
when a connection is made, so one that was made of old files could not be made again.
"""

from __future__ import annotations

import logging
import threading
import weakref
from operator import methodcaller
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import grpc

from tideline.rpc.file_versions import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_C = TypeVar("_C")
_log = logging.getLogger(__name__)


class Latest(Generic[_C]):
    """The channel of what the files say now; when what they say now is bad, of what they said last."""

    def __init__(self, paths: Sequence[Path], make: Callable[[], _C], check: Callable[[], None]) -> None:
        """`make` makes a channel of the files; `check` raises `OSError` when they do not go together.

        Raises `OSError` when they cannot be read now.
        """
        self._paths = paths
        self._make = make
        self._check = check
        self._version = version_of(paths)
        self._channel = make()
        # Those before it are kept by calls under way on them.
        self.all = weakref.WeakSet([self._channel])
        self._turn = threading.Lock()

    def get(self) -> _C:
        """Return the channel for the next call."""
        if version_of(self._paths) != self._version:
            with self._turn:
                self._renew()
        return self._channel

    def _renew(self) -> None:
        version = version_of(self._paths)
        if version == self._version:
            return
        try:
            self._check()
            channel = self._make()
        except OSError:
            # Told of once.
            self._version = version
            _log.error("changed certificates or keys are not taken; connections are made of those before")
            return
        # Changed again while they were read, they may have been read by halves: the next call looks again.
        if version_of(self._paths) == version:
            self._version, self._channel = version, channel
            self.all.add(channel)


class _Method(Generic[_C]):
    """A method, on the channel that is the latest when it is called."""

    def __init__(self, latest: Latest[_C], make: Callable[[_C], Any]) -> None:
        self._latest = latest
        self._make = make
        self._made: tuple[_C | None, Any] = (None, None)

    def _present(self) -> tuple[_C, Any]:
        channel = self._latest.get()
        made, call = self._made
        if made is not channel:
            call = self._make(channel)
            self._made = channel, call
        return channel, call


class _BlockingMethod(_Method[grpc.Channel]):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        channel, call = self._present()
        answer = call(*arguments, **options)
        return _keeping(channel, answer) if isinstance(answer, grpc.RpcContext) else answer

    def with_call(self, *arguments: Any, **options: Any) -> Any:
        _, call = self._present()
        return call.with_call(*arguments, **options)

    def future(self, *arguments: Any, **options: Any) -> Any:
        channel, call = self._present()
        return _keeping(channel, call.future(*arguments, **options))


def _keeping(channel: grpc.Channel, call: Any) -> Any:
    """Keep a channel for as long as a call goes on, so that it is ended, too, when all is closed."""
    call.add_callback(lambda _=channel: None)
    return call


class _AioMethod(_Method[grpc.aio.Channel]):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        channel, call = self._present()
        begun = call(*arguments, **options)
        begun.add_done_callback(lambda _, __=channel: None)
        return begun


class _Methods(Generic[_C]):
    """The methods of a channel, of whichever kind."""

    _method: ClassVar[type[_Method[Any]]]

    def __init__(self, latest: Latest[_C]) -> None:
        self._latest = latest

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        return self._method(self._latest, methodcaller("unary_unary", *method, **options))

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        return self._method(self._latest, methodcaller("unary_stream", *method, **options))

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        return self._method(self._latest, methodcaller("stream_unary", *method, **options))

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        return self._method(self._latest, methodcaller("stream_stream", *method, **options))


class RenewedChannel(_Methods[grpc.Channel], grpc.Channel):
    """A channel that blocks; it follows the files."""

    _method = _BlockingMethod

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:  # noqa: FBT001, FBT002
        """Hear of the connection that there is now, not of those that follow it."""
        self._latest.get().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        for channel in tuple(self._latest.all):
            channel.unsubscribe(callback)

    def close(self) -> None:
        for channel in tuple(self._latest.all):
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RenewedAioChannel(_Methods[grpc.aio.Channel], grpc.aio.Channel):
    """The same for asyncio."""

    _method = _AioMethod

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002
        return self._latest.get().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._latest.get().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._latest.get().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        for channel in tuple(self._latest.all):
            await channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
