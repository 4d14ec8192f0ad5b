"""Monitors in MongoDB."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pymongo import ASCENDING, DESCENDING, ReturnDocument

from clickstream_service.domain.monitor import MAX_HISTORY, Beyond, Delivery, Monitor, MonitorState, Transition
from clickstream_service.domain.signal import Metric, Value
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from motor.motor_asyncio import AsyncIOMotorClientSession

    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document

_GIVEN: Final = tuple(
    field.name for field in fields(Monitor) if field.name not in {"monitor_id", "window", "state", "state_since"}
)


class MongoMonitors:
    """The collections `monitors` and `monitor_transitions`; a transition with `deliver_at` is to be delivered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._monitors = database.monitors
        self._transitions = database.monitor_transitions

    @outages()
    async def put(self, monitor: Monitor) -> Monitor:
        """Keep a monitor in the place of the one with its id, whose state stays; return it as it is now."""
        given = {name: getattr(monitor, name) for name in _GIVEN}
        document = await self._monitors.find_one_and_update(
            {"_id": monitor.monitor_id},
            {
                "$set": {**given, "window_ms": monitor.window // timedelta(milliseconds=1)},
                "$setOnInsert": {"state": int(MonitorState.UNKNOWN)},
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        assert document is not None  # noqa: S101 - upserted
        return _to_monitor(document)

    @outages()
    async def get(self, monitor_id: str) -> Monitor | None:
        """Return a monitor; None when there is none."""
        document = await self._monitors.find_one({"_id": monitor_id})
        return None if document is None else _to_monitor(document)

    @outages()
    async def transitions(self, monitor_id: str) -> list[Transition]:
        """Return the latest transitions of a monitor, newest first."""
        found = self._transitions.find({"monitor_id": monitor_id}).sort("number", DESCENDING)
        return [_to_transition(document) async for document in found.limit(MAX_HISTORY)]

    @outages()
    async def by_id(self, after: str, limit: int) -> list[Monitor]:
        """Return monitors with ids after one, by id."""
        found = self._monitors.find({"_id": {"$gt": after}}).sort("_id", ASCENDING).limit(limit)
        return [_to_monitor(document) async for document in found]

    async def every(self) -> AsyncIterator[Monitor]:
        """Yield all monitors."""
        async with outages():
            async for document in self._monitors.find({"_id": {"$gt": ""}}):
                yield _to_monitor(document)

    async def delete(self, monitor_id: str) -> bool:
        """Delete a monitor and its history; returns whether it was there."""

        async def delete(transaction: AsyncIOMotorClientSession) -> bool:
            deleted = await self._monitors.delete_one({"_id": monitor_id}, session=transaction)
            await self._transitions.delete_many({"monitor_id": monitor_id}, session=transaction)
            return deleted.deleted_count > 0

        return await in_transaction(self._database, delete)

    async def move(self, monitor: Monitor, transition: Transition, delivery: Delivery | None) -> None:
        """Bring a monitor into another state, unless it was put anew or moved since."""
        document = _from_transition(transition)
        if delivery is not None:
            document |= {"deliver_at": transition.at, "attempts": 0, "url": delivery.url, "payload": delivery.payload}

        async def move(transaction: AsyncIOMotorClientSession) -> None:
            moved = await self._monitors.find_one_and_update(
                {"_id": monitor.monitor_id, "revision": monitor.revision, "state": int(monitor.state)},
                {"$set": {"state": int(transition.state), "state_since": transition.at}, "$inc": {"moves": 1}},
                return_document=ReturnDocument.AFTER,
                session=transaction,
            )
            if moved is not None:
                # Numbered, as several may happen at one time.
                await self._transitions.insert_one({**document, "number": moved["moves"]}, session=transaction)

        await in_transaction(self._database, move)

    @outages()
    async def due(self, now: datetime, limit: int) -> list[Delivery]:
        """Return deliveries to try now, at most one of each monitor, its oldest."""
        found = self._transitions.aggregate(
            [
                # Those that wait to be tried again, too: what comes after them must not overtake them.
                {"$match": {"deliver_at": {"$exists": True}}},
                {"$sort": {"monitor_id": 1, "number": 1}},
                {"$group": {"_id": "$monitor_id", "first": {"$first": "$$ROOT"}}},
                {"$match": {"first.deliver_at": {"$lte": now}}},
                {"$limit": limit},
            ],
            hint="to_deliver",
        )
        return [
            Delivery(first["_id"], first["url"], first["payload"], first["attempts"])
            async for first in (each["first"] async for each in found)
        ]

    @outages()
    async def delivered(self, transition_id: str) -> None:
        """Note that a webhook took a transition."""
        change = {"$set": {"delivered": True}, "$unset": {"deliver_at": "", "payload": ""}}
        await self._transitions.update_one({"_id": transition_id}, change)

    @outages()
    async def failed(self, transition_id: str, again_at: datetime | None) -> None:
        """Note that a webhook did not take it, and when to try again; None to give up."""
        change: Document = {"$inc": {"attempts": 1}}
        change |= (
            {"$unset": {"deliver_at": "", "payload": ""}} if again_at is None else {"$set": {"deliver_at": again_at}}
        )
        # Deleted meanwhile, it stays so.
        await self._transitions.update_one({"_id": transition_id}, change)


def _to_monitor(document: Document) -> Monitor:
    given = {name: document[name] for name in _GIVEN}
    given |= {"metric": Metric(document["metric"]), "beyond": Beyond(document["beyond"])}
    return Monitor(
        monitor_id=document["_id"],
        window=timedelta(milliseconds=document["window_ms"]),
        state=MonitorState(document["state"]),
        state_since=document.get("state_since"),
        **given,
    )


def _from_transition(transition: Transition) -> Document:
    value = transition.value
    return {
        "_id": transition.transition_id,
        "monitor_id": transition.monitor_id,
        "state": int(transition.state),
        "at": transition.at,
        "value": {"value": value.value, "low": value.low, "high": value.high, "count": value.count},
        "delivered": transition.delivered,
    }


def _to_transition(document: Document) -> Transition:
    return Transition(
        transition_id=document["_id"],
        monitor_id=document["monitor_id"],
        state=MonitorState(document["state"]),
        at=document["at"],
        value=Value(**document["value"]),
        delivered=document["delivered"],
    )
