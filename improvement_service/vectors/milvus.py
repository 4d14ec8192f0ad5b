"""The vectors of search indexes: originals for everybody, copies for each user.

Copies have a Milvus collection to themselves: they are looked up by their owner and never searched, and a search takes
the same time however many users have some.
"""

from __future__ import annotations

from contextlib import aclosing
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from improvement_service.domain.objects import CopyReference, Original, UserCopies
from improvement_service.domain.search import Hit
from improvement_service.vectors import reading, schema
from improvement_service.vectors.connection import MOST_HITS, Connection
from improvement_service.vectors.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from improvement_service.domain.facets import Wanted
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import CatalogueObject, PersonalCopy
    from improvement_service.domain.overlay import Overlay
    from improvement_service.domain.scoring import Floats
    from improvement_service.vectors.schema import Row

_OBJECT: Final = ("object_id", "part", "is_average", "payload", "vector")
_ORIGINAL: Final = ("object_id", "part", "base_hash", "vector")
_COPY: Final = ("object_id", "part", "base_hash", "learned_from", "vector")


class VectorStore:
    """Vectors in Milvus. Every write can be repeated; every read but `search` sees all writes before it.

    Failures: `DependencyUnavailable` when Milvus does not answer, `CollectionNotFound` when it lost the collection.
    """

    most_hits = MOST_HITS

    def __init__(self, uri: str, *, token: str = "", timeout_s: float = 30.0, index_type: str = "") -> None:
        """Prepare for Milvus at `uri` (a path that ends in `.db` is Milvus Lite), on the running event loop.

        `index_type` is what Milvus calls it; HNSW on a server and the exact FLAT on Milvus Lite when empty.
        """
        self._milvus = Connection(uri, token, timeout_s, index_type)

    async def close(self) -> None:
        await self._milvus.close()

    async def ping(self) -> None:
        """Ask whether Milvus answers; raises `DependencyUnavailable`."""
        await self._milvus.ping()

    async def ensure(self, index: SearchIndex) -> None:
        """Make room for an index unless there is."""
        personal = self._milvus.ensure(schema.personal(index), index, searched=False)
        await side_by_side((self._milvus.ensure(index.vectors, index), personal), most=2)

    async def drop(self, index: SearchIndex) -> None:
        """Remove an index with all that is in it."""
        await self._milvus.drop(schema.personal(index))
        await self._milvus.drop(index.vectors)

    async def write_objects(self, index: SearchIndex, objects: Sequence[CatalogueObject]) -> None:
        """Add objects or replace them, parts that they have no more included."""
        kept = await self._shared(index, [given.object_id for given in objects], ["object_id"])
        rows = [row for given in objects for row in schema.object_rows(index, given)]
        await self._milvus.write(index.vectors, rows)
        surplus = {row["pk"] for row in kept} - {row["pk"] for row in rows}
        await self._milvus.delete(index.vectors, sorted(surplus))

    async def read_objects(self, index: SearchIndex, object_ids: Iterable[str]) -> dict[str, CatalogueObject]:
        """Return the objects that are there, as they were given."""
        rows = await self._shared(index, object_ids, _OBJECT, index.dimension)
        given = [row for row in rows if row["part"] != schema.MEAN]
        return {object_id: reading.object_from_rows(parts) for object_id, parts in reading.by_object(given)}

    async def export_objects(self, index: SearchIndex, some: int) -> AsyncGenerator[list[CatalogueObject], None]:
        """Yield all objects as they were given, up to `some` at a time."""
        # Every object has a first part. Rows come in the order of their keys, which has nothing to do with objects.
        async for rows in self._milvus.pages(index.vectors, f"{schema.SHARED} and part == 0", ["object_id"]):
            for start in range(0, len(rows), some):
                found = await self.read_objects(index, [row["object_id"] for row in rows[start : start + some]])
                yield list(found.values())

    async def delete_objects(self, index: SearchIndex, object_ids: Iterable[str]) -> int:
        """Delete originals; returns how many were there."""
        rows = await self._shared(index, object_ids, ["object_id"])
        await self._milvus.delete(index.vectors, [row["pk"] for row in rows])
        return len({row["object_id"] for row in rows})

    async def fetch_originals(self, index: SearchIndex, object_ids: Iterable[str]) -> dict[str, Original]:
        """Return what is scored of the objects that are there, [P, D] each."""
        rows = await self._shared(index, object_ids, _ORIGINAL, index.dimension, schema.SEARCHED)
        return {
            object_id: Original(reading.vectors_of(parts), parts[0]["base_hash"])
            for object_id, parts in reading.by_object(rows)
        }

    async def base_hashes(self, index: SearchIndex, object_ids: Iterable[str]) -> dict[str, str]:
        """Return the hash of the vectors of each object that is there."""
        rows = await self._shared(index, object_ids, ["object_id", "base_hash"])
        return {row["object_id"]: row["base_hash"] for row in rows}

    async def copies_of(self, index: SearchIndex, object_ids: Iterable[str]) -> list[CopyReference]:
        """Return all users' copies of these objects."""
        keys = [schema.key(object_id) for object_id in dict.fromkeys(object_ids)]
        fields = ["user_id", "object_id", "base_hash"]
        rows = await self._milvus.read_many(schema.personal(index), "object_key", keys, schema.ANY, fields)
        rows.sort(key=_owner_and_object)
        return [
            CopyReference(user_id, object_id, found[0]["base_hash"], tuple(row["pk"] for row in found))
            for (user_id, object_id), group in groupby(rows, key=_owner_and_object)
            for found in [list(group)]
        ]

    async def drop_copies(self, index: SearchIndex, copies: Iterable[CopyReference]) -> None:
        """Delete copies."""
        await self._milvus.delete(schema.personal(index), [key for copy in copies for key in copy.keys])

    async def replace_personal(
        self, index: SearchIndex, user_id: str, copies: Sequence[PersonalCopy], queries: Floats
    ) -> int:
        """As `replace_personal_many`, for one user."""
        return await self.replace_personal_many(index, [UserCopies(user_id, tuple(copies), queries)])

    async def replace_personal_many(self, index: SearchIndex, users: Sequence[UserCopies]) -> int:
        """Make these the users' copies, all of them: others that they had go. Returns how many went.

        Rows of several users share calls, so when this raises, any of the users may be half-written; doing it again
        mends that. What no version was bumped for, running searches do not see.
        """
        rows = [row for user in users for row in schema.user_rows(user)]
        owners = [schema.key(user.user_id) for user in users]
        _, there = await side_by_side(
            (
                self._milvus.write(schema.personal(index), rows),
                self._milvus.read_many(schema.personal(index), "owner", owners, schema.ANY, ["owner", "object_key"]),
            ),
            most=2,
        )
        kept = {row["pk"] for row in rows}
        gone = [row for row in there or () if row["pk"] not in kept]
        await self._milvus.delete(schema.personal(index), [row["pk"] for row in gone])
        remain = {(row["owner"], row["object_key"]) for row in rows}
        return len({(row["owner"], row["object_key"]) for row in gone if row["object_key"]} - remain)

    async def clock(self) -> int:
        """Return the time on the clock of Milvus, for `load_overlay`; 0 where it has none."""
        return await self._milvus.clock()

    async def load_overlay(self, index: SearchIndex, user_id: str, written_until: int = 0) -> Overlay | None:
        """Return what the user has in place of originals that are there and unchanged; None when that is nothing.

        What was written until `written_until`, on the clock of Milvus, is seen for sure; until now when that is 0.
        """
        owned = f'owner == "{schema.key(user_id)}"'
        rows = await self._milvus.read(
            schema.personal(index), owned, _COPY, dimension=index.dimension, written_until=written_until
        )
        copied = [schema.key(object_id) for object_id in {row["object_id"] for row in rows} - {""}]
        originals = await self._milvus.read_many(
            index.vectors, "object_key", copied, schema.SEARCHED, (*_ORIGINAL, "payload", "facets"),
            dimension=index.dimension, written_until=written_until,
        )  # fmt: skip
        return reading.overlay_from_rows(rows, originals)

    async def rename_users(self, index: SearchIndex, renamed: Callable[[str], str]) -> int:
        """Give users the names that `renamed` returns; it leaves new names as they are. Returns how many rows changed.

        Can be broken off anywhere and begun again. Where a user had rows under both names, those under the old one are
        kept, until a run computes all of them anew.
        """
        count = 0
        async with aclosing(
            self._milvus.pages(schema.personal(index), schema.ANY, schema.PERSONAL, dimension=index.dimension)
        ) as pages:
            async for page in pages:
                old = [row for row in page if renamed(row["user_id"]) != row["user_id"]]
                await self._milvus.write(
                    schema.personal(index), (schema.of_user(row, renamed(row["user_id"])) for row in old)
                )
                await self._milvus.delete(schema.personal(index), [row["pk"] for row in old])
                count += len(old)
        return count

    async def drop_user(self, index: SearchIndex, user_id: str) -> int:
        """Delete all that the user has in this index; returns of how many objects there were copies."""
        return await self.replace_personal(index, user_id, (), np.zeros((0, index.dimension), np.float32))

    async def search(self, index: SearchIndex, query: Floats, limit: int, asked: Wanted) -> list[Hit]:
        """Return the `limit` nearest scored rows of originals, nearest first; an object comes once for each part."""
        fields = ["object_id", "payload"]
        found = await self._milvus.search(index.vectors, query, schema.searched(asked), fields, limit=limit)
        return [
            Hit(row["object_id"], reading.score(index.metric, distance), reading.payload_of(row))
            for distance, row in found
        ]

    async def _shared(
        self,
        index: SearchIndex,
        object_ids: Iterable[str],
        fields: Sequence[str],
        dimension: int = 0,
        condition: str = schema.SHARED,
    ) -> list[Row]:
        keys = [schema.key(object_id) for object_id in dict.fromkeys(object_ids)]
        return await self._milvus.read_many(index.vectors, "object_key", keys, condition, fields, dimension=dimension)


def _owner_and_object(row: Row) -> tuple[str, str]:
    return row["user_id"], row["object_id"]
