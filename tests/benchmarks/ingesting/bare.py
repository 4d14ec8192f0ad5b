"""The same documents, written and read by the driver alone: what the database gives at best."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.collection import Collection
    from pymongo.database import Database

    Document = dict[str, Any]


class Bare:
    """A collection with the documents of the service, and with its indexes or without."""

    def __init__(
        self, source: Collection[Document], target: Database[Document], *, indexed: bool, name: str = ""
    ) -> None:
        self._source = source
        self.collection = target[name or f"{source.name}_{'indexed' if indexed else 'plain'}"]
        self.collection.database.create_collection(self.collection.name)
        if indexed:
            for given, index in source.index_information().items():
                if given != "_id_":
                    keys, options = index["key"], {key: index[key] for key in index if key not in {"key", "v", "ns"}}
                    self.collection.create_index(keys, name=given, **options)

    def documents(self, count: int) -> list[Document]:
        """Return documents as the service has stored them, under other ids."""
        found = list(
            self._source.aggregate([{"$sort": {"recorded_at": -1}}, {"$limit": min(count, 2_000)}], allowDiskUse=True)
        )
        return [_renamed(found[number % len(found)]) for number in range(count)]

    async def insert(self, documents: Sequence[Document], at_once: int, threads: int = 1) -> float:
        """Insert with `insert_many(at_once)`; returns documents a second."""
        groups = [documents[start : start + at_once] for start in range(0, len(documents), at_once)]
        began = time.perf_counter()
        if threads == 1:
            for group in groups:
                self.collection.insert_many(group, ordered=False)
        else:
            with ThreadPoolExecutor(threads) as pool:
                loop = asyncio.get_running_loop()
                await asyncio.gather(
                    *(loop.run_in_executor(pool, self.collection.insert_many, group) for group in groups)
                )
        return len(documents) / (time.perf_counter() - began)


def _renamed(document: Document) -> Document:
    same = dict(document)
    if isinstance(same["_id"], dict):
        same["_id"] = {"s": same["_id"]["s"], "e": f"{uuid.uuid4().hex[:20]}-1"}
    else:
        same["_id"] = uuid.uuid4().hex
        same["batch_id"] = uuid.uuid4().hex
    return same
