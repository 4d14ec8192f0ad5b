"""Keeping rollups current in MongoDB."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from pymongo import DeleteOne, InsertOne, ReplaceOne
from pymongo.errors import OperationFailure

from clickstream_service.storage.rollup_changes import ChangeReader
from clickstream_service.storage.rollup_documents import Totals, from_contribution, to_contribution
from clickstream_service.storage.rollup_facts import FactReader, Unit
from clickstream_service.storage.rollup_state import RollupStates
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from motor.motor_asyncio import AsyncIOMotorClientSession
    from pymongo import DeleteMany, UpdateOne

    from clickstream_service.domain.contribution import Contribution
    from clickstream_service.domain.rollup import RollupRules
    from clickstream_service.storage.database import Database
    from clickstream_service.storage.rollup_changes import Changes
    from clickstream_service.storage.rollup_state import RollupState
    from tideline.mongo.client import Document

    Fold = Callable[[AsyncIOMotorClientSession], Awaitable[None]]
    Change = InsertOne[Document] | ReplaceOne[Document] | DeleteOne

FOLDED_AT_ONCE: Final = 1_000
"""So many sessions are folded in one transaction, at most."""
FOLD_S: Final = 1.0
"""How long a transaction should take at most: MongoDB ends those that outlive its limit, which may be a few seconds."""
READ_AT_ONCE: Final = 5_000
"""So many changed sessions are gathered, at most, before they are folded."""
QUIET_ADVANCE_S: Final = 10.0
"""How often it is noted that nothing was changed, so that the place in the stream does not get lost with age."""


class _TooLong(Exception):
    """A transaction failed that took long."""


class MongoRollups:
    """The collections `rollups_N` and `rollup_contributions_N` of the generation in force."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._states = RollupStates(database)

    async def rules(self) -> RollupRules | None:
        """Return by which rules the rollups in force were made; None when there are none."""
        state = await self._states.current()
        return None if state is None else state.rules

    @asynccontextmanager
    async def following(self, fence: int, wait_s: float) -> AsyncIterator[Following]:
        """Carry on the rollups in force under this fence; raises `RoleLost`."""
        state = await self._states.adopt(fence)
        assert state is not None  # noqa: S101 - they were counted before they are followed
        changes = ChangeReader(self._database, state.since, state.token, wait_s)
        try:
            yield Following(self._database, self._states, state, fence=fence, changes=changes, wait_s=wait_s)
        finally:
            await changes.close()

    @outages()
    async def caught_up(self) -> None:
        """Wait until everything that is stored by now is in the rollups."""
        mark = uuid.uuid4().hex
        marks = self._database.rollup_marks
        gone: list[Document] = [
            {"$match": {"operationType": "delete", "documentKey._id": mark}},
            {"$project": {"documentKey": 1}},
        ]
        async with marks.watch(gone) as stream:
            await marks.insert_one({"_id": mark})
            await stream.next()


class Following:
    """One generation of rollups, followed by one replica."""

    def __init__(
        self,
        database: Database,
        states: RollupStates,
        state: RollupState,
        *,
        fence: int,
        changes: ChangeReader,
        wait_s: float,
    ) -> None:
        self._database = database
        self._states = states
        self._generation = state.generation
        self._rollups = states.rollups(state.generation)
        self._contributions = states.contributions(state.generation)
        self._facts = FactReader(database, state.rules)
        self._fence = fence
        self._changes = changes
        self._wait_s = wait_s
        self._advanced_at = time.monotonic()
        self._at_once = FOLDED_AT_ONCE // 4

    async def step(self, turn: Callable[[], Awaitable[None]]) -> bool:
        """Bring what was changed next into the rollups, once it is their `turn`; returns whether that was not all.

        Raises `ChangesLost`, and `RoleLost` when another replica carries them on by now.
        """
        changes = await self._changes.read(1, self._wait_s)
        if changes.units or changes.marks:
            # Also reading changes takes from those who make them.
            await turn()
            changes.add(await self._changes.read(READ_AT_ONCE, self._wait_s))
            left = list(changes.units)
            await turn()
            while not await self._fold_first(left, changes):
                await turn()
            self._advanced_at = time.monotonic()
        elif changes.token is not None and time.monotonic() > self._advanced_at + QUIET_ADVANCE_S:
            await self._states.advance(self._generation, self._fence, changes.token, None)
            self._advanced_at = time.monotonic()
        return len(changes.units) >= READ_AT_ONCE

    async def _fold_first(self, left: list[Unit], changes: Changes) -> bool:
        """Fold as many of the units as a transaction has time for, take them away, and return whether these were all.

        The place in the stream is kept with the last of them: until then, all would be folded again, which changes
        nothing.
        """
        some = left[: self._at_once]
        is_last = len(some) == len(left)
        began = time.monotonic()
        try:
            await in_transaction(
                self._database, self._fold_in(some, changes if is_last else None), retry_duplicates=True
            )
        except (_TooLong, OperationFailure):
            # Its end may have come at the commit, too.
            if len(some) <= 1:
                raise
            self._at_once = max(len(some) // 4, 1)
            return False
        took = time.monotonic() - began
        if took > FOLD_S:
            self._at_once = max(self._at_once // 2, 1)
        elif took < FOLD_S / 4:
            self._at_once = min(self._at_once * 2, FOLDED_AT_ONCE)
        del left[: len(some)]
        return is_last

    def _fold_in(self, units: Sequence[Unit], changes: Changes | None) -> Fold:
        async def fold(transaction: AsyncIOMotorClientSession) -> None:
            began = time.monotonic()
            try:
                if changes is not None and changes.token is not None:
                    await self._states.advance(self._generation, self._fence, changes.token, transaction)
                    if changes.marks:
                        marks = {"_id": {"$in": changes.marks}}
                        await self._database.rollup_marks.delete_many(marks, session=transaction)
                if units:
                    await self._fold(units, transaction)
            except OperationFailure as error:
                # It would end in the same way again, and again, were it as long.
                if len(units) > 1 and time.monotonic() > began + FOLD_S:
                    raise _TooLong from error
                raise

        return fold

    async def _fold(self, units: Sequence[Unit], transaction: AsyncIOMotorClientSession) -> None:
        """Put what the units add now in the place of what they have added so far."""
        ids = [{"s": session_id, "e": event_id} for session_id, event_id in units]
        found = self._contributions.find({"_id": {"$in": ids}}, session=transaction)
        before = {(old["_id"]["s"], old["_id"]["e"]): to_contribution(old) async for old in found}
        after = await self._facts.contributions(units, transaction)
        # In a thread, so that calls do not have to wait for it.
        changes, updates, removals = await asyncio.to_thread(_differences, units, before, after)
        if changes:
            await self._contributions.bulk_write(changes, ordered=False, session=transaction)
        if updates:
            await self._rollups.bulk_write(updates, ordered=False, session=transaction)
        if removals:
            await self._rollups.bulk_write(removals, ordered=True, session=transaction)


def _differences(
    units: Sequence[Unit], before: Mapping[Unit, Contribution], after: Mapping[Unit, Contribution]
) -> tuple[list[Change], list[UpdateOne], list[UpdateOne | DeleteMany]]:
    """Return how contributions change, and rollups with them, and what takes away those that count nothing any more."""
    totals = Totals()
    changes: list[Change] = []
    for session_id, event_id in units:
        old, new = before.get((session_id, event_id)), after.get((session_id, event_id))
        if old == new:
            continue
        if old is not None:
            totals.add(old, -1)
        contribution_id = {"_id": {"s": session_id, "e": event_id}}
        if new is None:
            changes.append(DeleteOne(contribution_id))
            continue
        totals.add(new)
        document = from_contribution(new)
        # Whatever was counted since this transaction began makes it begin again.
        changes.append(InsertOne(contribution_id | document) if old is None else ReplaceOne(contribution_id, document))
    return changes, list(totals.updates()), list(totals.removals())
