"""The service with short waits, and a stub of what is asked of it here."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.conftest import Clock, Service, serving
from tideline.clickstream.v1 import privacy_service_pb2 as pb
from tideline.clickstream.v1 import privacy_service_pb2_grpc
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo.database import Database

    from clickstream_service.config import Settings


@dataclass
class Private(Service):
    """A running service, and what it answers about users."""

    privacy: privacy_service_pb2_grpc.PrivacyServiceAsyncStub

    async def erase(self, user_id: str, within_s: float | None = None) -> pb.ErasureReceipt:
        return (await self.privacy.EraseUser(pb.EraseUserRequest(user_id=user_id), timeout=within_s)).receipt

    async def erased(self, user_id: str) -> pb.ErasureReceipt:
        """Erase a user, however long it takes."""
        while True:
            receipt = await self.erase(user_id)
            if receipt.state == pb.ERASURE_STATE_FINISHED:
                return receipt


@pytest.fixture
def settings(settings: Settings) -> Settings:
    brief = {name: timedelta(milliseconds=50) for name in ("erasure_grace", "erasure_every", "signal_delay")}
    return settings.model_copy(update=brief)


@asynccontextmanager
async def serving_privately(settings: Settings, clock: Clock) -> AsyncIterator[Private]:
    async with (
        serving(settings, clock) as service,
        grpc.aio.insecure_channel(f"127.0.0.1:{service.port}", options=OPTIONS) as channel,
    ):
        yield Private(
            service.port,
            service.sessions,
            service.batches,
            service.feedback,
            service.interactions,
            privacy_service_pb2_grpc.PrivacyServiceStub(channel),
        )


@pytest.fixture
async def service(settings: Settings, clock: Clock) -> AsyncIterator[Private]:
    async with serving_privately(settings, clock) as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that only the database shows."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def traces(database: Database[dict[str, Any]], *texts: str) -> list[str]:
    """The collections in whose documents one of these texts is, wherever in them."""
    return [
        name
        for name in database.list_collection_names()
        for document in database[name].find()
        if any(text in repr(document) for text in texts)
    ]
