"""Calls of the improvement service, its failures in our words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from tideline.errors import DependencyUnavailable
from tideline.improvement.v1 import object_service_pb2, object_service_pb2_grpc
from tideline.rpc.breaker import Breaker
from tideline.rpc.channels import NOTHING
from tideline.rpc.keepalive import keepalive
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from datetime import timedelta

    from tideline.rpc.channels import Access

_CHANNEL = (
    *OPTIONS,
    # A connection that died silently is noticed by those who wait for an answer, and made anew.
    *keepalive(15, 10),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class ImprovementClient:
    """The improvement service at an address."""

    def __init__(self, address: str, patience: timedelta, access: Access = NOTHING) -> None:
        """Prepare a connection; it is made by the first call. Calls wait up to `patience` for an answer."""
        self._channel = access.aio_channel(address, _CHANNEL)
        self._objects = object_service_pb2_grpc.ObjectServiceStub(self._channel)
        self._patience_s = patience.total_seconds()
        # Of many who are to be forgotten, each would wait in vain.
        self._breaker = Breaker("the improvement service")

    async def close(self) -> None:
        await self._channel.close()

    async def forget(self, user_id: str) -> int:
        """Delete all that was learned of a user; returns how many copies of objects went.

        Raises `DependencyUnavailable` when that failed for whatever reason: it has to be done again.
        """
        request = object_service_pb2.DeleteUserVectorsRequest(user_id=user_id)
        with self._breaker.watching():
            try:
                answer = await self._objects.DeleteUserVectors(request, timeout=self._patience_s)
            except grpc.aio.AioRpcError as error:
                raise DependencyUnavailable("the improvement service did not forget a user") from error
        return int(answer.copies_deleted)
