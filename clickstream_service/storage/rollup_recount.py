"""Counting everything again, into a new generation of rollups."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final

from pymongo import DESCENDING, WriteConcern

from clickstream_service.storage.rollup_documents import Totals, from_contribution
from clickstream_service.storage.rollup_facts import FactReader, Unit
from clickstream_service.storage.rollup_state import RollupState, RollupStates
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from bson import Timestamp

    from clickstream_service.domain.contribution import Contribution
    from clickstream_service.domain.rollup import RollupRules
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection

UNITS_AT_ONCE: Final = 1_000
TOTALS_AT_ONCE: Final = 100_000
"""So many rollups are summed up in memory before they are written."""
UPDATES_AT_ONCE: Final = 5_000
GENERATIONS: Final = "^rollup(s|_contributions)_[0-9]+$"

_NOT_YET_DURABLE: Final = WriteConcern(w=1)
"""Nobody reads a generation before it is put in force, by a durable write that comes after all others."""


class MongoRecount:
    """Makes generations of rollups. One recount at a time: whoever calls has the role."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._states = RollupStates(database)

    @outages()
    async def run(self, rules: RollupRules, progress: Callable[[int], None]) -> int:
        """Count everything by these rules and put the result in force; returns what was counted.

        Whoever follows the rollups goes on from where the recount began, so that nothing is missed that came in
        meanwhile, and what it has seen is not counted twice.
        """
        before = await self._states.current()
        generation = 1 if before is None else before.generation + 1
        await self._drop_others(None if before is None else before.generation)
        since = await self._operation_time()
        # Whatever these wait for is older than what is counted now.
        marks = [mark["_id"] async for mark in self._database.rollup_marks.find({}, {"_id": 1}, hint="_id_")]
        rollups, contributions = self._states.rollups(generation), self._states.contributions(generation)
        for collection in (rollups, contributions):
            await collection.database.create_collection(collection.name)
        counting = _Counting(FactReader(self._database, rules), rollups, contributions)
        async for units in self._units(contributions):
            progress(await counting.add(units))
        await counting.flush()
        await self._states.replace(RollupState(generation, rules, since, None))
        await self._database.rollup_marks.delete_many({"_id": {"$in": marks}})
        await self._drop_others(generation)
        return counting.units

    @outages()
    async def drop_leftovers(self) -> None:
        """Drop what a recount has left behind that did not come to its end."""
        state = await self._states.current()
        await self._drop_others(None if state is None else state.generation)

    async def _drop_others(self, generation: int | None) -> None:
        database = self._database.rollup_state.database
        for name in await database.list_collection_names(filter={"name": {"$regex": GENERATIONS}}):
            if not name.endswith(f"_{generation}"):
                await database.drop_collection(name)

    async def _operation_time(self) -> Timestamp:
        answer = await self._database.rollup_state.database.command("ping")
        since: Timestamp = answer["operationTime"]
        return since

    async def _units(self, contributions: Collection) -> AsyncIterator[list[Unit]]:
        """Yield everything that may contribute, newest sessions first, so that those of one day come together."""
        newest_first = self._database.sessions.find({}, {"_id": 1, "created_at": 1})
        sessions = newest_first.sort([("created_at", DESCENDING), ("_id", DESCENDING)])
        async for units in _together((session["_id"], "") async for session in sessions):
            yield units
        # An index has the ids of sessions in order: the events themselves are not read.
        by_session = self._database.session_events.aggregate(
            [{"$match": {"session_id": {"$gt": ""}}}, {"$group": {"_id": "$session_id"}}],
            hint="of_session_oldest_first",
        )
        async for units in _together((group["_id"], "") async for group in by_session):
            ids = [session_id for session_id, _ in units]
            known = {each["_id"] async for each in self._database.sessions.find({"_id": {"$in": ids}}, {"_id": 1})}
            # A session that was counted above and deleted since is seen to by whoever follows.
            counted = contributions.find({"_id": {"$in": [{"s": each, "e": ""} for each in ids]}}, {"_id": 1})
            known |= {each["_id"]["s"] async for each in counted}
            if missing := [unit for unit in units if unit[0] not in known]:
                yield missing
        alone = self._database.session_events.find({"session_id": ""}, {"_id": 1}, hint="of_session_oldest_first")
        async for units in _together(("", event["_id"]["e"]) async for event in alone):
            yield units


class _Counting:
    """A generation on the way."""

    def __init__(self, facts: FactReader, rollups: Collection, contributions: Collection) -> None:
        self.units = 0
        self._facts = facts
        self._rollups = rollups.with_options(write_concern=_NOT_YET_DURABLE)
        self._contributions = contributions.with_options(write_concern=_NOT_YET_DURABLE)
        self._totals = Totals()

    async def add(self, units: list[Unit]) -> int:
        found = await self._facts.contributions(units)
        await asyncio.to_thread(self._sum, found.values())
        if found:
            await self._contributions.insert_many(
                [
                    {"_id": {"s": session_id, "e": event_id}, **from_contribution(contribution)}
                    for (session_id, event_id), contribution in found.items()
                ],
                ordered=False,
            )
        self.units += len(units)
        if len(self._totals) > TOTALS_AT_ONCE:
            await self.flush()
        return len(units)

    def _sum(self, contributions: Iterable[Contribution]) -> None:
        for contribution in contributions:
            self._totals.add(contribution)

    async def flush(self) -> None:
        updates = self._totals.updates()
        while some := list(islice(updates, UPDATES_AT_ONCE)):
            await self._rollups.bulk_write(some, ordered=False)
        self._totals = Totals()


async def _together(units: AsyncIterator[Unit]) -> AsyncIterator[list[Unit]]:
    group: list[Unit] = []
    async for unit in units:
        group.append(unit)
        if len(group) == UNITS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group
