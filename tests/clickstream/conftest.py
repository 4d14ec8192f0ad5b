"""The service as it runs, in this process: on a free port, a database of its own, and a clock that tests can set."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from clickstream_service.app import running
from clickstream_service.config import Settings
from clickstream_service.storage.database import Database as Connection
from clickstream_service.storage.mongo_rollups import MongoRollups
from tideline.clickstream.v1 import (
    batch_service_pb2_grpc,
    feedback_service_pb2_grpc,
    interaction_service_pb2_grpc,
    session_service_pb2_grpc,
)
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from pymongo import MongoClient
    from pymongo.database import Database

    CaughtUp = Callable[[], Awaitable[None]]


@dataclass
class Clock:
    """The time of the service: it stands still until a test moves it."""

    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.time

    def advance(self, by: timedelta) -> None:
        self.time += by


@dataclass
class Service:
    """A running service and stubs of all it serves."""

    port: int
    sessions: session_service_pb2_grpc.SessionServiceAsyncStub
    batches: batch_service_pb2_grpc.BatchServiceAsyncStub
    feedback: feedback_service_pb2_grpc.FeedbackServiceAsyncStub
    interactions: interaction_service_pb2_grpc.InteractionServiceAsyncStub


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(mongo_uri: str, database_name: str) -> Settings:
    """Override this fixture, or use `model_copy(update=...)`, for other settings."""
    return Settings(
        mongo_uri=mongo_uri,
        mongo_database=database_name,
        listen="127.0.0.1:0",
        stop_grace=timedelta(seconds=1),
        signal_delay=timedelta(milliseconds=20),
    )


@asynccontextmanager
async def serving(settings: Settings, clock: Clock) -> AsyncIterator[Service]:
    """Run one more instance of the service."""
    async with (
        running(settings, clock) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel,
    ):
        yield Service(
            port,
            session_service_pb2_grpc.SessionServiceStub(channel),
            batch_service_pb2_grpc.BatchServiceStub(channel),
            feedback_service_pb2_grpc.FeedbackServiceStub(channel),
            interaction_service_pb2_grpc.InteractionServiceStub(channel),
        )


@pytest.fixture
async def service(settings: Settings, clock: Clock) -> AsyncIterator[Service]:
    async with serving(settings, clock) as running_service:
        yield running_service


@pytest.fixture
def sessions(service: Service) -> session_service_pb2_grpc.SessionServiceAsyncStub:
    return service.sessions


@pytest.fixture
def database(mongo_client: MongoClient[dict[str, Any]], settings: Settings) -> Database[dict[str, Any]]:
    """The database of the service, to look at."""
    return mongo_client[settings.mongo_database]


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Connection]:
    """The database, as the service sees it."""
    connection = Connection(str(settings.mongo_uri), settings.mongo_database, settings.mongo_patience)
    yield connection
    connection.close()


@pytest.fixture
def caught_up(connection: Connection) -> CaughtUp:
    """Waits until everything that was recorded is in the rollups."""
    return MongoRollups(connection).caught_up


@pytest.fixture
def profiled(service: Service, database: Database[dict[str, Any]]) -> Iterator[None]:
    """Fails the test when a query of its RPCs walked through a collection, or sorted what an index has in order."""
    database.command("profile", 2)
    yield
    database.command("profile", 0)
    bad = {
        "$or": [{"planSummary": {"$regex": "COLLSCAN"}}, {"hasSortStage": True}],
        "ns": {"$ne": f"{database.name}.system.profile"},
    }
    assert [(op["planSummary"], op["command"]) for op in database["system.profile"].find(bad)] == []
    assert database["system.profile"].count_documents({"planSummary": {"$regex": "IXSCAN|IDHACK"}}) > 0
