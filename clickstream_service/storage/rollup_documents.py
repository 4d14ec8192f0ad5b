"""Rollups and contributions as MongoDB documents.

The `_id` of a rollup holds its whole key, in the order in which questions narrow it down: kind (k), segment (f) and its
value (v), hour (a), surface (u), item (x). MongoDB compares embedded documents field by field, so a range of `_id` is
all hours of a segment in a row, and no other index has to be kept up to date.

Of objects there are many, each with few counts, and a search names a dozen of them: their rollups lie together in packs
by hash, a document each, whose `_id` has the number of the pack (b) where others have the item. A pack holds under `r`,
by a digest of object and types, the counts with the object (x) and a digest of the types (y), which are kept once. One
write counts for a whole pack; a document for each object would take several times as long.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from bson import Decimal128
from pymongo import DeleteMany, UpdateOne

from clickstream_service.domain.contribution import Contribution, Key, Kind, Search, counters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Document = dict[str, Any]

PACKS: Final = {Kind.SHOWN: 256, Kind.ACTS_BY_DAY: 256, Kind.ACTS_BY_HOUR: 32}
"""The kinds that are packed, into so many at most by segment, hour and surface: there is room for hundreds of thousands
of objects with the longest ids."""
UNPACKED: Final[Sequence[Document]] = ({"$project": {"r": {"$objectToArray": "$r"}}}, {"$unwind": "$r"})
"""Stages that yield the rollups of packs, each under `r.v`."""

_SEARCH: Final = tuple(Search.__slots__)


class Totals:
    """What a number of contributions add, or take back, by rollup."""

    def __init__(self) -> None:
        self._by_key: dict[Key, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, contribution: Contribution, sign: int = 1) -> None:
        by_key = self._by_key
        for key, counts in counters(contribution):
            total = by_key.get(key)
            if total is None:
                by_key[key] = {name: sign * count for name, count in counts.items()}
                continue
            for name, count in counts.items():
                total[name] = total.get(name, 0) + sign * count

    def updates(self) -> Iterator[UpdateOne]:
        """Yield the updates to make."""
        packs: dict[tuple[Any, ...], tuple[Document, Document]] = {}
        for key, counts in self._by_key.items():
            changes = {name: _number(name, count) for name, count in counts.items() if count}
            if not changes:
                continue
            if key.kind in PACKS:
                digest = _digest(key)
                path = f"r.{digest}"
                added, named = packs.setdefault((*key[:5], _pack(key.kind, digest)), ({}, {}))
                added.update({f"{path}.{name}": count for name, count in changes.items()})
                if counts["refs"] > 0:
                    named[f"{path}.x"] = key.item
                    if key.types:
                        named[f"{path}.y"] = types_digest(key.types)
                continue
            update: Document = {"$inc": changes}
            if key.kind is Kind.QUERIES:
                update["$setOnInsert"] = {"text": key.item}
            yield UpdateOne({"_id": _rollup_id(key)}, update, upsert=True)
        for pack, (added, named) in packs.items():
            update = {"$inc": added, "$set": named} if named else {"$inc": added}
            yield UpdateOne({"_id": _pack_id(pack)}, update, upsert=True)

    def removals(self) -> Iterator[UpdateOne | DeleteMany]:
        """Yield what takes away the rollups that count nothing any more, once the updates are made."""
        rollups: list[Document] = []
        packs: dict[tuple[Any, ...], Document] = {}
        for key, counts in self._by_key.items():
            if counts["refs"] >= 0:
                continue
            if key.kind in PACKS:
                digest = _digest(key)
                pack = (*key[:5], _pack(key.kind, digest))
                packs[pack] = _pack_id(pack)
                yield UpdateOne({"_id": packs[pack], f"r.{digest}.refs": 0}, {"$unset": {f"r.{digest}": ""}})
            else:
                rollups.append(_rollup_id(key))
        if rollups:
            yield DeleteMany({"_id": {"$in": rollups}, "refs": 0})
        if packs:
            yield DeleteMany({"_id": {"$in": list(packs.values())}, "r": {}})


def hours(kind: Kind, segment: str, value: str, since: int, before: int) -> Document:
    """Return the query for the rollups of some hours."""
    prefix = {"k": str(kind), "f": segment, "v": value}
    return {"_id": {"$gte": {**prefix, "a": since}, "$lt": {**prefix, "a": before}}}


def types_digest(key: str) -> str:
    """Return what stands for a set of types, by its key, in packs."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


def from_contribution(contribution: Contribution) -> Document:
    """Return the fields of a contribution, all but its `_id`."""
    document: Document = {"surface": contribution.surface, "segments": [list(each) for each in contribution.segments]}
    search = contribution.search
    if search is not None:
        document["search"] = {
            **{name: getattr(search, name) for name in _SEARCH},
            "ranks": bytes(search.ranks),
            "clicked_ranks": bytes(search.clicked_ranks),
            "high_objects": list(search.high_objects),
        }
    document["acts"] = [
        {"hour": hour, "object_id": object_id, "types": list(types), "by_strength": list(by_strength), "n": n}
        for (hour, object_id, types, by_strength), n in contribution.acts
    ]
    document["dwells"] = [
        {"hour": hour, "n": n, "sum": total, "squares": _number("_sq", squares)}
        for hour, n, total, squares in contribution.dwells
    ]
    return document


def to_contribution(document: Mapping[str, Any]) -> Contribution:
    search = document.get("search")
    return Contribution(
        surface=document["surface"],
        segments=tuple((field, value) for field, value in document["segments"]),
        search=None
        if search is None
        else Search(
            **{
                **search,
                "ranks": tuple(search["ranks"]),
                "clicked_ranks": tuple(search["clicked_ranks"]),
                "high_objects": tuple(search["high_objects"]),
            }
        ),
        acts=tuple(
            ((act["hour"], act["object_id"], tuple(act["types"]), tuple(act["by_strength"])), act["n"])
            for act in document["acts"]
        ),
        dwells=tuple(
            (dwell["hour"], dwell["n"], dwell["sum"], whole(dwell["squares"])) for dwell in document["dwells"]
        ),
    )


def whole(number: Any) -> int:
    """Return a count, or a sum, as it comes from MongoDB."""
    return int(number.to_decimal()) if isinstance(number, Decimal128) else int(number)


def wholes(document: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    return {name: whole(document.get(name) or 0) for name in names}


def _rollup_id(key: Key) -> Document:
    rollup_id: Document = {"k": str(key.kind), "f": key.segment, "v": key.value, "a": key.hour, "u": key.surface}
    if key.item:
        # A query may be long, and an index of long keys is slow.
        rollup_id["x"] = _digest(key) if key.kind is Kind.QUERIES else key.item
    return rollup_id


def _pack_id(pack: tuple[Any, ...]) -> Document:
    return dict(zip("kfvaub", (str(pack[0]), *pack[1:]), strict=True))


def _pack(kind: Kind, digest: str) -> int:
    return int(digest[:8], 16) % PACKS[kind]


def _digest(key: Key) -> str:
    text = f"{len(key.types)}:{key.types}{key.item}" if key.kind in PACKS else key.item
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _number(name: str, count: int) -> int | Decimal128:
    # Squares of milliseconds outgrow 64 bits, and floating point would not come out the same in another order.
    return Decimal128(Decimal(count)) if name.endswith("_sq") else count
