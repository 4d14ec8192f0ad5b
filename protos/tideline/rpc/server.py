"""A gRPC server as both services run it."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import grpc
from grpc_reflection.v1alpha import reflection

from tideline.rpc import processes
from tideline.rpc.calls import CallsInterceptor
from tideline.rpc.decoding import MAX_MESSAGE_BYTES
from tideline.rpc.health import Health
from tideline.rpc.interceptor import ContractInterceptor
from tideline.rpc.keepalive import keepalive
from tideline.rpc.telemetry import TelemetryInterceptor
from tideline.rpc.user_ids import PseudonymInterceptor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tideline.rpc.interceptor import PlainCheck
    from tideline.rpc.pseudonyms import UserKeys
    from tideline.rpc.security import Security

OPTIONS = (
    # Somewhat more than the contract's limit, so that it is Tideline that answers, with a reason.
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES * 3 // 2),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A client of a stream that is silent for minutes may ask every 10 s whether anybody is there; gRPC would hang up.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Calls of a burst wait to be taken up; beyond this gRPC would drop some of them, as CANCELLED and without a reason.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)

# A client that died silently in the middle of a stream is noticed, too: within 80 s, not within hours.
KEEPALIVE = keepalive(60, 20)


class Server:
    """A `grpc.aio` server with telemetry, the contract's checks, health and, when wanted, reflection."""

    def __init__(
        self,
        *,
        unavailable: tuple[type[Exception], ...] = (),
        reflect: Iterable[str] = (),
        calls: CallsInterceptor | None = None,
        security: Security | None = None,
        user_keys: UserKeys | None = None,
        plainly_valid: Mapping[type, PlainCheck] | None = None,
    ) -> None:
        """Have health and, where it is wanted, reflection tell of the services in `reflect`.

        With `user_keys`, whatever is behind the server knows users by their pseudonyms only. For `plainly_valid` see
        `ContractInterceptor`.
        """
        self._calls = calls or CallsInterceptor()
        # The first one sees calls first.
        protection = [security.interceptor] if security is not None else []
        contract = ContractInterceptor(unavailable, plainly_valid)
        interceptors = [TelemetryInterceptor(), *protection, self._calls, contract]
        if user_keys is not None:
            interceptors.append(PseudonymInterceptor(user_keys))
        # Two processes on one port that are not meant to be there would share its calls silently.
        options = [*OPTIONS, *KEEPALIVE, ("grpc.so_reuseport", int(processes.shares_port()))]
        self.grpc = grpc.aio.server(interceptors=interceptors, options=options)
        # The generic handlers find every method. For methods that are registered by name, too, gRPC keeps a call
        # waiting each, and goes through all of these at every call.
        self.grpc.add_registered_method_handlers = lambda *_: None  # type: ignore[method-assign]
        names = tuple(reflect)
        self.health = Health(self.grpc, names)
        self._credentials = security.credentials if security is not None else None
        if names and (security is None or security.reflection):
            reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self.grpc)

    def listen(self, address: str) -> int:
        """Bind to `address` and return the port; raises `Misconfigured` when it is taken, or not ours."""
        with processes.binding(address):
            if self._credentials is None:
                return self.grpc.add_insecure_port(address)
            return self.grpc.add_secure_port(address, self._credentials)

    async def start(self, *, ready: bool = True) -> None:
        """Take calls from now on, and say so, unless it takes `health.watch` to find out that it is `ready`."""
        await self.health.start(ready=ready)
        await self.grpc.start()

    async def stop(self, grace_s: float) -> None:
        """Say that no more calls are wanted, give those under way `grace_s` seconds, and end."""
        await self.health.leave()
        telling = asyncio.create_task(self._calls.stop(grace_s))
        await self.grpc.stop(grace_s)
        telling.cancel()


async def until_told_to_stop() -> None:
    """Wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if processes.shares_port():
        # Nothing ever comes in here, but it ends together with whoever has started this.
        loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
