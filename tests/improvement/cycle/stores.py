"""Vector stores that misbehave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from improvement_service.vectors.milvus import VectorStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import Original, UserCopies


class FailingStore(VectorStore):
    """Fails to write some users, with the error that each is to fail with."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, index_type="FLAT")
        self.failing: dict[str, Exception] = {}

    async def replace_personal_many(self, index: SearchIndex, users: Sequence[UserCopies]) -> int:
        for user in users:
            if user.user_id in self.failing:
                raise self.failing[user.user_id]
        return await super().replace_personal_many(index, users)


class GatedStore(VectorStore):
    """Holds up writes of copies while the gate is closed, and reads of originals while `reading` is not set."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, index_type="FLAT")
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = asyncio.Event()
        self.reading.set()
        self.reached = asyncio.Event()

    async def replace_personal_many(self, index: SearchIndex, users: Sequence[UserCopies]) -> int:
        self.reached.set()
        await self.gate.wait()
        return await super().replace_personal_many(index, users)

    async def fetch_originals(self, index: SearchIndex, object_ids: Iterable[str]) -> dict[str, Original]:
        await self.reading.wait()
        return await super().fetch_originals(index, object_ids)
