"""A gRPC server as both services run it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from tideline.rpc.decoding import MAX_MESSAGE_BYTES
from tideline.rpc.interceptor import ContractInterceptor

if TYPE_CHECKING:
    from collections.abc import Iterable

OPTIONS = (
    # Somewhat more than the contract's limit, so that it is Tideline that answers, with a reason.
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES * 3 // 2),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two processes on one port would share its calls silently.
    ("grpc.so_reuseport", 0),
    # A client of a stream that is silent for minutes may ask every 10 s whether anybody is there; gRPC would hang up.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Calls of a burst wait to be taken up; beyond this gRPC would drop some of them, as CANCELLED and without a reason.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)


class Server:
    """A `grpc.aio` server with the contract's checks, health and, when wanted, reflection."""

    def __init__(self, *, unavailable: tuple[type[Exception], ...] = (), reflect: Iterable[str] = ()) -> None:
        self.grpc = grpc.aio.server(interceptors=[ContractInterceptor(unavailable)], options=OPTIONS)
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        if names := tuple(reflect):
            reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self.grpc)

    def listen(self, address: str) -> int:
        """Bind to `address` and return the port; raises `RuntimeError` when it is taken."""
        return self.grpc.add_insecure_port(address)

    async def start(self) -> None:
        """Take calls from now on, and say so."""
        await self.grpc.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Say that no more calls are wanted, give those under way `grace_s` seconds, and end."""
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(grace_s)


async def until_told_to_stop() -> None:
    """Wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
