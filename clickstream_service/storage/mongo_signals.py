"""Signals from rollups in MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clickstream_service.domain.contribution import Kind
from clickstream_service.domain.errors import UnknownSegment
from clickstream_service.domain.hours import DAY
from clickstream_service.domain.metrics import SUMS
from clickstream_service.domain.signal import Scope, Step
from clickstream_service.storage.rollup_documents import PACKS, UNPACKED, hours, wholes
from clickstream_service.storage.rollup_facts import SURFACE
from clickstream_service.storage.rollup_state import RollupStates
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clickstream_service.storage.database import Database
    from clickstream_service.storage.rollup_state import RollupState
    from tideline.mongo.client import Document

MAX_MS: Final = 30_000
"""How long a question may take."""


class Hours(NamedTuple):
    """The rollups of a kind in some hours."""

    kind: Kind
    since: int
    before: int


class RollupReader:
    """Asks the generation of rollups that is in force."""

    def __init__(self, database: Database) -> None:
        self._states = RollupStates(database)

    async def ask(self, kind: Kind, scope: Scope, stages: Sequence[Document]) -> list[Document]:
        """Return what `stages` make of the rollups of a scope; raises `UnknownSegment`."""
        return await self.ask_all([Hours(kind, scope.since, scope.before)], scope, stages)

    @outages()
    async def ask_all(self, ranges: Sequence[Hours], scope: Scope, stages: Sequence[Document]) -> list[Document]:
        """Do the same for these ranges of hours instead of those of the scope: all of packs, or none."""
        unpacked = UNPACKED if ranges[0].kind in PACKS else ()
        state = await self._states.current()
        while state is not None:
            match = {"$match": _query(ranges, scope, state)}
            found = self._states.rollups(state.generation).aggregate([match, *unpacked, *stages], maxTimeMS=MAX_MS)
            answer = await found.to_list(None)
            # A recount that ended meanwhile may have taken away what was read.
            read, state = state.generation, await self._states.current()
            if state is None or state.generation == read:
                return answer
        return []


class MongoSignals:
    """Metrics from rollups."""

    def __init__(self, database: Database) -> None:
        self._rollups = RollupReader(database)

    async def sums(self, scope: Scope, step: Step) -> dict[int, Mapping[str, int]]:
        """Return the sums that metrics are made of by the first hour of the step; steps without any are left out."""
        begins: Any = {
            Step.ALL: {"$literal": scope.since},
            Step.HOUR: "$_id.a",
            Step.DAY: {"$subtract": ["$_id.a", {"$mod": ["$_id.a", DAY]}]},
        }[step]
        group = {"$group": {"_id": begins, **{name: {"$sum": f"${name}"} for name in SUMS}}}
        found = await self._rollups.ask(Kind.METRICS, scope, [group])
        return {int(each["_id"]): wholes(each, SUMS) for each in found}

    async def places(self, scope: Scope, max_positions: int) -> list[tuple[int, int]]:
        """Return impressions and clicks by position, `max_positions` of them."""
        names = [f"{kind}{rank}" for rank in range(1, max_positions + 1) for kind in "ic"]
        group = {"$group": {"_id": None, **{name: {"$sum": f"${name}"} for name in names}}}
        found = await self._rollups.ask(Kind.POSITIONS, scope, [group])
        sums = wholes(found[0] if found else {}, names)
        return [(sums[f"i{rank}"], sums[f"c{rank}"]) for rank in range(1, max_positions + 1)]

    async def types(self, scope: Scope, limit: int) -> list[tuple[str, int]]:
        """Return the most frequent types of events, and how often each happened."""
        group = {"$group": {"_id": "$_id.x", "n": {"$sum": "$n"}}}
        found = await self._rollups.ask(Kind.TYPES, scope, [group, {"$sort": {"n": -1, "_id": 1}}, {"$limit": limit}])
        return [(each["_id"], each["n"]) for each in found]


def _query(ranges: Sequence[Hours], scope: Scope, state: RollupState) -> Document:
    if scope.segment not in ("", SURFACE, *state.rules.segments):
        raise UnknownSegment("is not rolled up", field=f"{scope.path}.segment")
    segment, value = ("", "") if scope.segment == SURFACE else (scope.segment, scope.value)
    surfaces = [scope.surface] if scope.surface else []
    if scope.segment == SURFACE:
        surfaces.append(scope.value)
    any_of = [hours(each.kind, segment, value, each.since, each.before) for each in ranges]
    return {"$and": [{"$or": any_of}, *({"_id.u": surface} for surface in surfaces)]}
