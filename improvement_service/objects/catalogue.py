"""The use cases of objects, and what becomes of personal copies when originals change."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from improvement_service.domain.objects import CatalogueObject, StoredObject
from improvement_service.domain.scoring import scored_parts
from improvement_service.objects.checks import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import CopyReference
    from improvement_service.domain.overlay import Overlay
    from improvement_service.objects.ports import Definitions, Feedback, Vectors, Versions

OBJECTS_A_WRITE: Final = 1_000
OBJECTS_A_READ: Final = 200


@dataclass(frozen=True)
class Changes:
    """What a call changed."""

    objects: int = 0
    copies_dropped: int = 0
    users_requeued: int = 0


class Catalogue:
    """Keeps the objects of collections."""

    def __init__(self, definitions: Definitions, vectors: Vectors, versions: Versions, feedback: Feedback) -> None:
        self._definitions = definitions
        self._vectors = vectors
        self._versions = versions
        self._feedback = feedback

    async def upsert(self, messages: AsyncIterator[tuple[str, Sequence[CatalogueObject]]]) -> Changes:
        """Add objects or replace them; `messages` are the parts of an upload, each with the name of its collection.

        Nothing is written before all of them are checked. Raises `CollectionNotFound`, `InvalidVector`,
        `InvalidField`, `StreamTooLarge`. When a write fails, doing all again finishes it.
        """
        upload: Upload | None = None
        async for name, objects in messages:
            if upload is None:
                upload = Upload(await self._definitions.get(name))
            upload.add(name, objects)
        if upload is None:
            return Changes()
        given = list(upload.objects.values())
        copies_dropped = 0
        requeued: set[str] = set()
        for start in range(0, len(given), OBJECTS_A_WRITE):
            some = given[start : start + OBJECTS_A_WRITE]
            await self._vectors.write_objects(upload.index, some)
            stale = await self._drop_stale(upload.index, {one.object_id: one.base_hash() for one in some})
            copies_dropped += len(stale)
            requeued |= {copy.user_id for copy in stale}
        return Changes(len(given), copies_dropped, len(requeued))

    async def get(self, name: str, object_ids: Sequence[str], user_id: str) -> list[StoredObject]:
        """Return the objects that are there, in the order asked for; the user's copies in place of the originals."""
        index = await self._definitions.get(name)
        originals = await self._vectors.read_objects(index, object_ids)
        overlay = await self._vectors.load_overlay(index, user_id) if user_id else None
        copies = _copies(index, originals, overlay) if overlay else {}
        return [
            StoredObject(copies[object_id], user_id) if object_id in copies else StoredObject(originals[object_id])
            for object_id in object_ids
            if object_id in originals
        ]

    async def export(self, name: str) -> AsyncGenerator[list[CatalogueObject], None]:
        """Yield all objects as they were given, some at a time; raises `CollectionNotFound`."""
        index = await self._definitions.get(name)
        async with aclosing(self._vectors.export_objects(index, OBJECTS_A_READ)) as parts:
            async for objects in parts:
                yield objects

    async def delete(self, name: str, object_ids: Sequence[str]) -> Changes:
        """Delete objects and all copies of them; those that are not there are passed over."""
        index = await self._definitions.get(name)
        deleted = await self._vectors.delete_objects(index, object_ids)
        stale = await self._drop_stale(index, dict.fromkeys(object_ids, ""))
        return Changes(deleted, len(stale), len({copy.user_id for copy in stale}))

    async def _drop_stale(self, index: SearchIndex, base_hashes: dict[str, str]) -> list[CopyReference]:
        """Drop the copies of these objects that were made from vectors with another hash; returns them.

        Copies are found anew by every repetition until they are gone, so they go last.
        """
        copies = await self._vectors.copies_of(index, base_hashes)
        # Overlays hold payloads too, so all users with copies are told.
        if copies:
            await self._versions.bump(index.name, {copy.user_id for copy in copies}, await self._vectors.clock())
        stale = [copy for copy in copies if copy.base_hash != base_hashes[copy.object_id]]
        if stale:
            users = sorted({copy.user_id for copy in stale})
            # Before, so that a repetition that finds no copies any more has queued them already; after, since a run may
            # have written copies anew in between, under the same keys.
            await self._feedback.requeue_users(users)
            await self._vectors.drop_copies(index, stale)
            await self._feedback.requeue_users(users)
        return stale


def _copies(index: SearchIndex, originals: dict[str, CatalogueObject], overlay: Overlay) -> dict[str, CatalogueObject]:
    """Return the copies of these objects, each with the parts that are scored."""
    parts = dict(zip(overlay.object_ids, np.split(overlay.copies, overlay.starts[1:]), strict=True))
    return {
        object_id: replace(original, vectors=tuple(parts[object_id]), is_average=_flags(index, original))
        for object_id, original in originals.items()
        if object_id in parts
    }


def _flags(index: SearchIndex, original: CatalogueObject) -> tuple[bool, ...]:
    scored = scored_parts(index.aggregation, original.is_average)
    return (True,) if scored is None else tuple(original.is_average[part] for part in scored)
