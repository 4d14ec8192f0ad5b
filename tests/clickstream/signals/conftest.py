"""Signals as they are asked for, and a way to wait until they know what was just recorded."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.clickstream.conftest import Clock
from tideline.clickstream.v1 import signal_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.clickstream.conftest import Service
    from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceAsyncStub

    CaughtUp = Callable[[], Awaitable[None]]


@pytest.fixture
def clock() -> Clock:
    """Yesterday, half past three in the afternoon: hours and days before and after are there to be used."""
    return Clock((datetime.now(UTC) - timedelta(days=1)).replace(hour=15, minute=30, second=0, microsecond=0))


@pytest.fixture
async def signals(service: Service) -> AsyncIterator[SignalServiceAsyncStub]:
    async with asked_of(service) as stub:
        yield stub


@asynccontextmanager
async def asked_of(service: Service) -> AsyncIterator[SignalServiceAsyncStub]:
    """Ask one of several services."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        yield signal_service_pb2_grpc.SignalServiceStub(channel)
