"""Events by visitor in MongoDB, tagged or deleted."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from pymongo import DeleteOne, UpdateOne

from clickstream_service.domain.noise import Act
from clickstream_service.storage.documents import created_at
from clickstream_service.storage.indexes import OF_USER_OLDEST_FIRST, OLDEST_FIRST
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
    from datetime import datetime

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.noise import Cleaning, Tagged
    from clickstream_service.storage.database import Database
    from clickstream_service.storage.mongo_sessions import Requeue
    from tideline.mongo.client import Document

    Visitor = list[tuple[Act, tuple[str, ...]]]
    Change = UpdateOne | DeleteOne

MOST_EVENTS: Final = 10_000
"""A visitor with more events is judged in portions of so many."""
SOURCE: Final = "source"
USER_AGENT: Final = "user_agent"
FIELDS: Final = dict.fromkeys(
    (
        *("session_id", "user_id", "created_at", "created_us", "object_id", "event_types", "position", "noise"),
        *(f"meta.{name}" for name in (SOURCE, USER_AGENT)),
    ),
    1,
)
SESSION_FIELDS: Final = dict.fromkeys(
    ("created_at", "created_us", *(f"search_meta.{name}" for name in (SOURCE, USER_AGENT))), 1
)


class MongoNoise:
    """The collection `session_events` as rules of noise see it, and what was done in `cleanings`."""

    def __init__(self, database: Database, requeue_in: Requeue) -> None:
        """`requeue_in` queues the users of submitted sessions again, in the transaction that it is given."""
        self._database = database
        self._events = database.session_events
        self._sessions = database.sessions
        self._cleanings = database.cleanings
        self._requeue_in = requeue_in

    async def visitors(self, since: datetime | None) -> AsyncGenerator[Visitor, None]:
        """Yield the events of each user, then those of each session without one, with their tags."""
        time: Document = {} if since is None else {"created_at": {"$gte": since}}
        async with outages():
            known = self._events.find({"user_id": {"$gt": ""}, **time}, FIELDS).sort(OF_USER_OLDEST_FIRST)
            async for group in _grouped(known, lambda event: str(event["user_id"])):
                yield await self._visitor(group)
            # Interactions without a user and a session are each for itself: nothing connects them.
            unknown = {"session_id": {"$gt": ""}, "user_id": {"$in": ["", None]}, **time}
            anonymous = self._events.find(unknown, FIELDS).sort(OLDEST_FIRST)
            async for group in _grouped(anonymous, lambda event: str(event["session_id"])):
                yield await self._visitor(group)
            alone = self._events.find({"session_id": "", "user_id": "", **time}, FIELDS).sort(OLDEST_FIRST)
            async for event in alone:
                yield await self._visitor([event])

    async def tag(self, events: Sequence[Tagged]) -> int:
        """Tag events with the rules they break, and queue the users of sessions that were submitted."""
        return await self._change(
            events,
            lambda event: UpdateOne(
                {"_id": _key(event.act)},
                {"$set": {"noise": list(event.rules)}} if event.rules else {"$unset": {"noise": ""}},
            ),
        )

    async def delete(self, events: Sequence[Tagged]) -> int:
        """Delete events, and queue the users of sessions that were submitted."""
        return await self._change(events, lambda event: DeleteOne({"_id": _key(event.act)}))

    @outages()
    async def record(
        self, cleaning: Cleaning, *, action: str, by: str, since: datetime | None, began: datetime, ended: datetime
    ) -> None:
        """Keep who has cleaned what."""
        await self._cleanings.insert_one(
            {
                "_id": uuid.uuid4().hex,
                "action": action,
                "by": by,
                "since": since,
                "began_at": began,
                "ended_at": ended,
                "visitors": cleaning.visitors,
                "events": cleaning.events,
                "noise": cleaning.noise,
                "by_rule": dict(cleaning.by_rule),
                "tagged": cleaning.tagged,
                "deleted": cleaning.deleted,
            }
        )

    async def _change(self, events: Sequence[Tagged], change: Callable[[Tagged], Change]) -> int:
        changes = [change(event) for event in events]
        session_ids = {event.act.session_id for event in events} - {""}

        async def work(transaction: Transaction) -> int:
            done = await self._events.bulk_write(changes, ordered=False, session=transaction)
            submitted = {"_id": {"$in": list(session_ids)}, "submitted": True, "irrelevant": {"$exists": False}}
            found = self._sessions.find(submitted, {"_id": 1}, session=transaction)
            if again := [session["_id"] async for session in found]:
                await self._requeue_in(again, transaction)
            return done.modified_count + done.deleted_count

        return await in_transaction(self._database, work)

    async def _visitor(self, events: Sequence[Document]) -> Visitor:
        ids = {event["session_id"] for event in events} - {""}
        found = self._sessions.find({"_id": {"$in": list(ids)}}, SESSION_FIELDS) if ids else None
        sessions = {session["_id"]: session async for session in found} if found is not None else {}
        return [(_act(event, sessions.get(event["session_id"])), tuple(event.get("noise", ()))) for event in events]


async def _grouped(
    events: AsyncIterable[Document], by: Callable[[Document], str]
) -> AsyncGenerator[list[Document], None]:
    group: list[Document] = []
    async for event in events:
        if group and (len(group) == MOST_EVENTS or by(event) != by(group[0])):
            yield group
            group = []
        group.append(event)
    if group:
        yield group


def _act(event: Document, session: Document | None) -> Act:
    own, searched = event.get("meta", {}), {} if session is None else session.get("search_meta", {})
    return Act(
        session_id=event["session_id"],
        event_id=event["_id"]["e"],
        at=created_at(event),
        object_id=event["object_id"],
        types=tuple(event["event_types"]),
        position=event.get("position"),
        source=_text(own.get(SOURCE)) or _text(searched.get(SOURCE)),
        user_agent=_text(own.get(USER_AGENT)) or _text(searched.get(USER_AGENT)),
        session_at=None if session is None else created_at(session),
    )


def _text(value: Any) -> str:
    return value.lower() if isinstance(value, str) else ""


def _key(act: Act) -> dict[str, str]:
    return {"s": act.session_id, "e": act.event_id}
