"""The connection to MongoDB and its collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tideline.mongo.availability import Availability
from tideline.mongo.client import DURABLE, connect
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from datetime import timedelta

    from tideline.mongo.client import Collection


class Database:
    """The collections of the service."""

    def __init__(self, uri: str, name: str, patience: timedelta) -> None:
        """Prepare a connection; it is made by the first call. Calls wait up to `patience` for a primary."""
        self.availability = Availability(patience.total_seconds())
        self.client = connect(uri, "clickstream", patience, self.availability)
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
