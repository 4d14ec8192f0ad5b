"""Forgetting users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from improvement_service.domain.errors import CollectionNotFound

if TYPE_CHECKING:
    from improvement_service.domain.index import SearchIndex
    from improvement_service.objects.ports import Definitions, PersonalVectors, PersonalVersions, PersonalWrites

COLLECTIONS_A_PAGE: Final = 100


class Forgetting:
    """Removes all that was learned of users, and every trace of their ids."""

    def __init__(
        self, definitions: Definitions, vectors: PersonalVectors, versions: PersonalVersions, writes: PersonalWrites
    ) -> None:
        self._definitions = definitions
        self._vectors = vectors
        self._versions = versions
        self._writes = writes

    async def forget(self, user_id: str) -> int:
        """Forget a user in all collections; returns how many copies of objects went. When it fails, do it again."""
        copies, after = 0, ""
        while found := await self._definitions.page(after, COLLECTIONS_A_PAGE):
            for index in found:
                copies += await self._forget_in(index, user_id)
            after = found[-1].name
        # Last: a run that wrote before this finds it gone, and takes back what it wrote.
        await self._writes.forget(user_id)
        return copies

    async def _forget_in(self, index: SearchIndex, user_id: str) -> int:
        try:
            copies = await self._vectors.drop_user(index, user_id)
        except CollectionNotFound:
            # Deleted a moment ago, with all that was in it.
            copies = 0
        # Without a version there is nothing in place of originals, whatever searches have kept in memory.
        await self._versions.forget_user(index.name, user_id)
        return copies
