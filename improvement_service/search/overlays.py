"""Overlays in memory, each as long as its version stays."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from improvement_service import metrics

if TYPE_CHECKING:
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.overlay import Overlay, OverlayVersion
    from improvement_service.search.ports import Changes, Vectors, Versions

_EMPTY_BYTES: Final = 1024


@dataclass(slots=True)
class _Kept:
    """What a user has in an index, under the version that it was read for; None when that is nothing."""

    vectors: str
    version: OverlayVersion | None
    overlay: Overlay | None
    watch: int = 0
    """The watch for changes under which it was found to be current; 0 when it was not."""


class Overlays:
    """What users have in place of originals; those used last are kept, up to `most_bytes` of them.

    What was found to be current while changes are watched stays so until one is told, and is not asked for again. A
    change is told at once to those who made it, and to others within what `Changes` says.
    """

    def __init__(self, vectors: Vectors, versions: Versions, changes: Changes, most_bytes: int) -> None:
        self._vectors = vectors
        self._versions = versions
        self._changes = changes
        self._most_bytes = most_bytes
        self._bytes = 0
        self._all: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        metrics.OVERLAY_BYTES.set_function(lambda: self._bytes)

    def kept(self, index: SearchIndex, user_id: str) -> tuple[Overlay | None, bool]:
        """Return what is in memory, and whether it is current; if it is not, `get` returns the same object if it is."""
        if not user_id:
            metrics.OVERLAY_NONE.inc()
            return None, True
        kept = self._all.get((index.name, user_id))
        if kept is None or kept.vectors != index.vectors:
            return None, False
        if not kept.watch or kept.watch != self._changes.watch():
            return kept.overlay, False
        self._used(kept, (index.name, user_id))
        return kept.overlay, True

    async def get(self, index: SearchIndex, user_id: str) -> Overlay | None:
        """Return what the user has in place of originals; None when that is nothing."""
        name = (index.name, user_id)
        kept, watch = self._all.get(name), self._changes.watch()
        # Read before the copies: a write in between makes the next search read again.
        version = await self._versions.get(index.name, user_id)
        if kept is not None and (kept.vectors, kept.version) == (index.vectors, version):
            if self._all.get(name) is kept:
                # Nothing was told of it since the version was asked for.
                kept.watch = watch
                self._used(kept, name)
            return kept.overlay
        if version is None:
            metrics.OVERLAY_NONE.inc()
            overlay = None
        else:
            metrics.OVERLAY_LOADED.inc()
            overlay = await self._vectors.load_overlay(index, user_id, version.written_until)
        self.forget(*name)
        # Changes that were told meanwhile could not be noted: it is for the next search to find out.
        self._all[name] = _Kept(index.vectors, version, overlay)
        self._bytes += _size(overlay)
        while self._bytes > self._most_bytes and self._all:
            self.forget(*next(iter(self._all)))
        return overlay

    def forget(self, collection: str, user_id: str) -> None:
        """Read what the user has anew, the next time it is wanted."""
        kept = self._all.pop((collection, user_id), None)
        if kept is not None:
            self._bytes -= _size(kept.overlay)

    def _used(self, kept: _Kept, name: tuple[str, str]) -> None:
        self._all.move_to_end(name)
        (metrics.OVERLAY_NONE if kept.version is None else metrics.OVERLAY_CACHED).inc()


def _size(overlay: Overlay | None) -> int:
    return _EMPTY_BYTES if overlay is None else overlay.nbytes()
