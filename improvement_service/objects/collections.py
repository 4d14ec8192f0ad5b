"""The use cases of collections."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from improvement_service.adjust import registry
from improvement_service.domain.errors import CollectionConflict, CollectionNotFound, InvalidAdjuster

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from improvement_service.domain.index import SearchIndex
    from improvement_service.objects.ports import Definitions, Vectors, Versions


class Collections:
    """Creates, finds and deletes collections."""

    def __init__(
        self, definitions: Definitions, vectors: Vectors, versions: Versions, now: Callable[[], datetime]
    ) -> None:
        self._definitions = definitions
        self._vectors = vectors
        self._versions = versions
        self._now = now

    async def create(self, asked: SearchIndex) -> SearchIndex:
        """Create a collection, or finish creating it; returns it with its defaults.

        Raises `CollectionConflict` when the name is taken by another definition, `InvalidAdjuster` when the adjuster
        cannot be had.
        """
        # The first adjuster loads torch, which takes seconds.
        await asyncio.to_thread(_check_adjuster, asked)
        # MongoDB keeps milliseconds.
        now = self._now()
        created = replace(
            asked,
            created_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
            vectors=f"{asked.name}_{secrets.token_hex(8)}",
        )
        kept = await self._definitions.add(created)
        if not kept.same_definition(asked):
            raise CollectionConflict("the name is taken by another definition", field="collection.name")
        await self._vectors.ensure(kept)
        return kept

    async def get(self, name: str) -> SearchIndex:
        """Return a collection; raises `CollectionNotFound`."""
        try:
            return await self._definitions.get(name)
        except CollectionNotFound as missing:
            missing.field = "name"  # other requests have a collection by another field
            raise

    async def page(self, after: str, limit: int) -> list[SearchIndex]:
        """Return collections by name, those after the name `after`."""
        return await self._definitions.page(after, limit)

    async def delete(self, name: str) -> bool:
        """Delete a collection with all that is in it; returns whether it was there."""
        try:
            index = await self._definitions.get(name)
        except CollectionNotFound:
            return False
        # The definition goes last, so that a deletion that stopped half-way can be repeated.
        await self._vectors.drop(index)
        await self._versions.forget(name)
        await self._definitions.remove(index)
        return True


def _check_adjuster(index: SearchIndex) -> None:
    try:
        registry.load(index.adjuster, index.metric, index.aggregation, index.parameters, device="cpu")
    except registry.AdjusterError as error:
        known = error.field in index.parameters
        field = f"parameters[{error.field!r}]" if known else "name"
        raise InvalidAdjuster(re.sub(r"\s+", " ", str(error)), field=f"collection.adjuster.{field}") from error
