"""The connection to MongoDB and its collections."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern
from pymongo.errors import ConnectionFailure, ExecutionTimeout, PyMongoError, WTimeoutError

from clickstream_service.storage.availability import Availability
from clickstream_service.storage.commands import ReportedCommands
from tideline.errors import DependencyUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from motor.motor_asyncio import AsyncIOMotorCollection

    Document = dict[str, Any]
    Collection = AsyncIOMotorCollection[Document]

DURABLE: Final = WriteConcern(w="majority", j=True)
"""A write is answered once most members have it in their journal."""

HEARTBEAT_MS: Final = 2_000

_OUTAGES: Final = (ConnectionFailure, ExecutionTimeout, WTimeoutError)
_PASSING: Final = ("RetryableWriteError", "TransientTransactionError", "UnknownTransactionCommitResult")


@asynccontextmanager
async def outages() -> AsyncIterator[None]:
    """Around calls of the driver, or over a method: an outage leaves as `DependencyUnavailable`."""
    try:
        yield
    except PyMongoError as error:
        if isinstance(error, _OUTAGES) or any(map(error.has_error_label, _PASSING)):
            raise DependencyUnavailable("the database does not answer") from error
        raise


class Database:
    """The collections of the service."""

    def __init__(self, uri: str, name: str, patience: timedelta) -> None:
        """Prepare a connection; it is made by the first call. Calls wait up to `patience` for a primary."""
        patience_ms = int(patience.total_seconds() * 1000)
        self.availability = Availability(patience.total_seconds())
        self.client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            uri,
            tz_aware=True,
            serverSelectionTimeoutMS=patience_ms,
            connectTimeoutMS=patience_ms,
            # A primary that hangs, or a network that swallows, is noticed after this and the time to connect; what
            # waits for it is given up then, and repeated where it can be.
            heartbeatFrequencyMS=HEARTBEAT_MS,
            event_listeners=[self.availability, ReportedCommands()],
            appname="clickstream",
        )
        database = self.client.get_database(name, write_concern=DURABLE)
        self.sessions: Collection = database["sessions"]
        self.session_events: Collection = database["session_events"]
        self.session_batches: Collection = database["session_batches"]
        self.sessions_for_improvement: Collection = database["sessions_for_improvement"]
        self.user_leases: Collection = database["user_leases"]
        self.erasures: Collection = database["erasures"]
        self.erasure_control: Collection = database["erasure_control"]
        self.cleanings: Collection = database["cleanings"]
        self.strengths: Collection = database["strengths"]
        self.roles: Collection = database["roles"]
        self.migrations: Collection = database["migrations"]
        self.rollup_state: Collection = database["rollup_state"]
        self.rollup_marks: Collection = database["rollup_marks"]
        self.monitors: Collection = database["monitors"]
        self.monitor_transitions: Collection = database["monitor_transitions"]
        self.propensities: Collection = database["propensities"]
        self.training_snapshots: Collection = database["training_snapshots"]
        self.pseudonyms: Collection = database["pseudonyms"]

    @outages()
    async def ping(self) -> None:
        """Ask whether there is a primary that answers; raises `DependencyUnavailable`."""
        await self.client.admin.command("ping")

    def close(self) -> None:
        self.client.close()
