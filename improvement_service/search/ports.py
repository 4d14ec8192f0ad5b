"""What these use cases need from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from improvement_service.domain.facets import Wanted
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.overlay import Overlay, OverlayVersion
    from improvement_service.domain.scoring import Floats
    from improvement_service.domain.search import Hit, RecordedSearch


class Definitions(Protocol):
    """Search indexes by name."""

    async def get(self, name: str) -> SearchIndex: ...


class Versions(Protocol):
    """Versions of users' copies."""

    async def get(self, collection: str, user_id: str) -> OverlayVersion | None: ...


class Changes(Protocol):
    """Changes of versions, as they are told."""

    def watch(self) -> int:
        """Return the number of the unbroken watch that tells of changes, a moment late at most; 0: there is none."""


class Vectors(Protocol):
    """Vectors of search indexes."""

    most_hits: int

    async def search(self, index: SearchIndex, query: Floats, limit: int, asked: Wanted) -> list[Hit]: ...
    async def load_overlay(self, index: SearchIndex, user_id: str, written_until: int) -> Overlay | None: ...


class Embedder(Protocol):
    """Makes vectors of texts."""

    async def embed(self, texts: list[str]) -> list[Floats]:
        """Return a vector [D] for each text."""


class Recorder(Protocol):
    """Records searches as sessions."""

    async def record(self, search: RecordedSearch) -> str:
        """Record a search and return the id of its session."""
