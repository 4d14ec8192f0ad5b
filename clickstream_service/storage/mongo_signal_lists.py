"""Objects and queries from rollups in MongoDB."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.domain.contribution import Kind
from clickstream_service.domain.hours import DAY, day_of
from clickstream_service.domain.signal import Scope, TopObject
from clickstream_service.storage.mongo_signals import Hours, RollupReader
from clickstream_service.storage.rollup_documents import types_digest

if TYPE_CHECKING:
    from clickstream_service.signal_lists import QueryFilter, Ranking
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document

SLOW: Final = timedelta(days=7)
"""With a half life from here on, what happened on one day is taken as of one age: it is off by 5 % at most."""

_HOUR: Final = timedelta(hours=1)
_ANYWHERE: Final = Scope(0, 0)


class MongoSignalLists:
    """Objects and queries by what was done with them."""

    def __init__(self, database: Database) -> None:
        self._rollups = RollupReader(database)

    async def skipped(
        self, scope: Scope, max_rank: int, min_impressions: int, limit: int
    ) -> list[tuple[str, int, int]]:
        """Return objects shown at these ranks with impressions and skips, most skips first."""
        ranks = range(1, max_rank + 1)
        sums = {
            name: {"$sum": {"$add": [{"$ifNull": [f"$r.v.{kind}{rank}", 0]} for rank in ranks]}}
            for name, kind in (("impressions", "i"), ("skips", "s"))
        }
        stages: list[Document] = [
            {"$group": {"_id": "$r.v.x", **sums}},
            {"$match": {"impressions": {"$gte": min_impressions}, "skips": {"$gt": 0}}},
            {"$sort": {"skips": -1, "impressions": 1, "_id": 1}},
            {"$limit": limit},
        ]
        found = await self._rollups.ask(Kind.SHOWN, scope, stages)
        return [(each["_id"], each["impressions"], each["skips"]) for each in found]

    async def queries(self, scope: Scope, which: QueryFilter, limit: int) -> list[tuple[str, int, int, int]]:
        """Return queries with sessions, clicked and zero-result sessions, most first."""
        sums = {name: {"$sum": f"${name}"} for name in ("n", "clicked", "zero")}
        wanted: Document = {"n": {"$gte": max(which.min_sessions, 1)}}
        if which.zero_results:
            wanted["zero"] = {"$gt": 0}
        if which.max_ctr is not None:
            wanted["$expr"] = {"$lt": ["$clicked", {"$multiply": ["$n", which.max_ctr]}]}
        stages: list[Document] = [
            {"$group": {"_id": "$_id.x", "text": {"$first": "$text"}, **sums}},
            {"$match": wanted},
            {"$sort": {"n": -1, "_id": 1}},
            {"$limit": limit},
        ]
        found = await self._rollups.ask(Kind.QUERIES, scope, stages)
        return [(each["text"], each["n"], each["clicked"], each["zero"]) for each in found]

    async def type_sets(self, scope: Scope) -> dict[str, tuple[str, ...]]:
        """Return which sets of types events had, by their keys."""
        days = Hours(Kind.TYPE_SETS, day_of(scope.since), scope.before)
        found = await self._rollups.ask_all([days], _ANYWHERE, [{"$group": {"_id": "$_id.x"}}])
        return {each["_id"]: tuple(json.loads(each["_id"])) for each in found}

    async def top(self, scope: Scope, ranking: Ranking, limit: int) -> list[TopObject]:
        """Return the objects that rank first."""
        length = scope.before - scope.since
        by_day = ranking.half_life is None or ranking.half_life >= SLOW
        ranges = _ranges(scope.since, scope.before, by_day=by_day)
        if ranking.trending:
            ranges += _ranges(scope.since - length, scope.since, by_day=by_day)
        is_now = {"$gte": ["$_id.a", scope.since]}
        end = {"$cond": [is_now, scope.before, scope.since]}
        weighted = {"$multiply": ["$r.v.n", _weight(ranking), _decay(ranking.half_life, end)]}
        sums = {
            "score": {"$sum": {"$cond": [is_now, weighted, 0]}},
            "count": {"$sum": {"$cond": [is_now, "$r.v.n", 0]}},
            "previous": {"$sum": {"$cond": [is_now, 0, weighted]}},
        }
        order = {"$divide": [_smoothed("$score", ranking), _smoothed("$previous", ranking)]}
        stages: list[Document] = [
            {"$match": {"r.v.y": {"$in": list(map(types_digest, ranking.weights))}}},
            {"$group": {"_id": "$r.v.x", **sums}},
            {"$match": {"count": {"$gt": 0}}},
            {"$set": {"order": order if ranking.trending else "$score"}},
            {"$sort": {"order": -1, "score": -1, "count": -1, "_id": 1}},
            {"$limit": limit},
        ]
        found = await self._rollups.ask_all(ranges, _ANYWHERE, stages)
        return [TopObject(each["_id"], each["score"], each["count"], each["previous"]) for each in found]


def _ranges(since: int, before: int, *, by_day: bool) -> list[Hours]:
    """Return what covers some hours: whole days by the day if that is wanted, and what is left by the hour."""
    first, last = day_of(since + DAY - 1), day_of(before)
    if not by_day or first >= last:
        return [Hours(Kind.ACTS_BY_HOUR, since, before)]
    days = Hours(Kind.ACTS_BY_DAY, first, last)
    edges = (Hours(Kind.ACTS_BY_HOUR, since, first), Hours(Kind.ACTS_BY_HOUR, last, before))
    return [days, *(edge for edge in edges if edge.since < edge.before)]


def _weight(ranking: Ranking) -> Any:
    """Return what an interaction weighs by its set of types, as an expression."""
    place = {"$indexOfArray": [{"$literal": list(map(types_digest, ranking.weights))}, "$r.v.y"]}
    return {"$arrayElemAt": [list(ranking.weights.values()), place]}


def _decay(half_life: timedelta | None, end: Any) -> Any:
    """Return what is left at hour `end` of what happened in the middle of the hour, or day, as an expression."""
    if half_life is None:
        return 1
    middle = {"$cond": [{"$eq": ["$_id.k", str(Kind.ACTS_BY_DAY)]}, DAY / 2, 0.5]}
    age = {"$max": [0, {"$subtract": [end, {"$add": ["$_id.a", middle]}]}]}
    return {"$pow": [0.5, {"$divide": [age, half_life / _HOUR]}]}


def _smoothed(score: str, ranking: Ranking) -> Any:
    return {"$add": [{"$max": [score, 0]}, ranking.smoothing]}
