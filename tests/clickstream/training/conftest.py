"""Stubs of the services that turn sessions into training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from tests.clickstream.training.calls import Log
from tideline.clickstream.v1 import (
    interaction_service_pb2_grpc,
    propensity_service_pb2_grpc,
    training_service_pb2_grpc,
)
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Service


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # The clock stands still: nothing is under way that a snapshot would have to wait for.
    return settings.model_copy(update={"snapshot_settle": settings.snapshot_settle * 0})


@pytest.fixture
async def channel(service: Service) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}", options=OPTIONS) as channel:
        yield channel


@pytest.fixture
def training(channel: grpc.aio.Channel) -> training_service_pb2_grpc.TrainingServiceAsyncStub:
    return training_service_pb2_grpc.TrainingServiceStub(channel)


@pytest.fixture
def propensities(channel: grpc.aio.Channel) -> propensity_service_pb2_grpc.PropensityServiceAsyncStub:
    return propensity_service_pb2_grpc.PropensityServiceStub(channel)


@pytest.fixture
def interactions(channel: grpc.aio.Channel) -> interaction_service_pb2_grpc.InteractionServiceAsyncStub:
    return interaction_service_pb2_grpc.InteractionServiceStub(channel)


@pytest.fixture
def log(service: Service) -> Log:
    return Log(service.sessions)
