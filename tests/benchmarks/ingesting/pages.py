"""Reading a batch page by page, through the service and by the driver alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.benchmarks.ingesting import workload
from tests.benchmarks.ingesting.load import check
from tideline.clickstream.v1 import batch_service_pb2 as pb

if TYPE_CHECKING:
    from pymongo.database import Database

    from tests.benchmarks.ingesting.load import Client

EVENTS_EACH = 3


class Pages:
    """Sessions of 20 results and 3 events each, in one batch."""

    def __init__(self, client: Client, database: Database[dict[str, Any]], at_once: int) -> None:
        self._client = client
        self._database = database
        self._at_once = at_once
        self._count = 0

    async def prepare(self, sessions: int) -> None:
        ids = await self._client.create_sessions(workload.creations(sessions // 100, 100))
        _, answers = await self._client.calls("PushEvents", workload.pushes(ids, sessions, EVENTS_EACH), 64)
        check(answers, sessions * EVENTS_EACH)
        self._count = self._database.sessions.count_documents({})

    async def through_service(self) -> float:
        """Return sessions a second, read by one reader after the other page."""
        batch = self._open_batch()
        [method, *_] = self._client.unary("/tideline.clickstream.v1.BatchService/GetBatchSessions")
        after = sessions = 0
        began = time.perf_counter()
        while True:
            request = pb.GetBatchSessionsRequest(batch_id=batch, after_number=after, limit=self._at_once)
            page = pb.GetBatchSessionsResponse.FromString(await method(request.SerializeToString()))
            if not page.sessions:
                break
            after, sessions = page.last_number, sessions + len(page.sessions)
        took = time.perf_counter() - began
        if sessions != self._count:
            raise RuntimeError(f"{sessions} sessions were read, there are {self._count}")
        return sessions / took

    async def bare(self) -> float:
        """Return the same for two queries a page: the sessions by number, and all of their events."""
        batch = self._open_batch()
        after = sessions = 0
        began = time.perf_counter()
        while True:
            found = self._database.sessions.find({"batch_id": batch, "session_number": {"$gt": after}})
            page = list(found.sort("session_number", 1).limit(self._at_once))
            if not page:
                break
            ids = [session["_id"] for session in page]
            list(
                self._database.session_events.find({"session_id": {"$in": ids}}).sort(
                    {"session_id": 1, "created_at": 1}
                )
            )
            after, sessions = page[-1]["session_number"], sessions + len(page)
        return sessions / (time.perf_counter() - began)

    def _open_batch(self) -> str:
        batch = self._database.session_batches.find_one({"state": "open"})
        assert batch is not None
        return str(batch["_id"])
