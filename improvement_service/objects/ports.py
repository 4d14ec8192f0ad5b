"""What these use cases need from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterable, Sequence

    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import CatalogueObject, CopyReference
    from improvement_service.domain.overlay import Overlay


class Definitions(Protocol):
    """Search indexes by name."""

    async def add(self, index: SearchIndex) -> SearchIndex: ...
    async def get(self, name: str) -> SearchIndex: ...
    async def page(self, after: str, limit: int) -> list[SearchIndex]: ...
    async def remove(self, index: SearchIndex) -> None: ...


class Versions(Protocol):
    """Versions of users' copies."""

    async def bump(self, collection: str, user_ids: Collection[str], written_until: int) -> None: ...
    async def forget(self, collection: str) -> None: ...


class Vectors(Protocol):
    """Vectors of search indexes."""

    async def ensure(self, index: SearchIndex) -> None: ...
    async def drop(self, index: SearchIndex) -> None: ...
    async def write_objects(self, index: SearchIndex, objects: Sequence[CatalogueObject]) -> None: ...
    async def read_objects(self, index: SearchIndex, object_ids: Iterable[str]) -> dict[str, CatalogueObject]: ...
    def export_objects(self, index: SearchIndex, some: int) -> AsyncGenerator[list[CatalogueObject], None]: ...
    async def delete_objects(self, index: SearchIndex, object_ids: Iterable[str]) -> int: ...
    async def copies_of(self, index: SearchIndex, object_ids: Iterable[str]) -> list[CopyReference]: ...
    async def drop_copies(self, index: SearchIndex, copies: Iterable[CopyReference]) -> None: ...
    async def load_overlay(self, index: SearchIndex, user_id: str) -> Overlay | None: ...
    async def clock(self) -> int: ...


class PersonalVectors(Protocol):
    """Vectors of users."""

    async def drop_user(self, index: SearchIndex, user_id: str) -> int: ...


class PersonalVersions(Protocol):
    """Versions of users' copies, to be forgotten."""

    async def forget_user(self, collection: str, user_id: str) -> None: ...


class PersonalWrites(Protocol):
    """Who wrote a user's copies last."""

    async def forget(self, user_id: str) -> None: ...


class Feedback(Protocol):
    """Where users queue to be learned from."""

    async def requeue_users(self, user_ids: Sequence[str]) -> int:
        """Queue users to be learned anew, any number of them; returns how many of them are known."""
