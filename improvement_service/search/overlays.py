"""Overlays in memory, each as long as its version stays."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from improvement_service import metrics

if TYPE_CHECKING:
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.overlay import Overlay, OverlayVersion
    from improvement_service.search.ports import Vectors, Versions

_EMPTY_BYTES: Final = 1024


class Overlays:
    """What users have in place of originals; those used last are kept, up to `most_bytes` of them."""

    def __init__(self, vectors: Vectors, versions: Versions, most_bytes: int) -> None:
        self._vectors = vectors
        self._versions = versions
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], tuple[OverlayVersion, Overlay | None]] = OrderedDict()
        metrics.OVERLAY_BYTES.set_function(lambda: self._bytes)

    def kept(self, index: SearchIndex, user_id: str) -> Overlay | None:
        """Return what is in memory, be it out of date; `get` returns the same object if it is not."""
        kept = self._kept.get((index.vectors, user_id))
        return None if kept is None else kept[1]

    async def get(self, index: SearchIndex, user_id: str) -> Overlay | None:
        """Return what the user has in place of originals; None when that is nothing."""
        # Read before the copies: a write in between makes the next search read again.
        version = await self._versions.get(index.name, user_id) if user_id else None
        name = (index.vectors, user_id)
        if version is None:
            self._forget(name)
            metrics.OVERLAY_NONE.inc()
            return None
        if name in self._kept and self._kept[name][0] == version:
            self._kept.move_to_end(name)
            metrics.OVERLAY_CACHED.inc()
            return self._kept[name][1]
        metrics.OVERLAY_LOADED.inc()
        overlay = await self._vectors.load_overlay(index, user_id, version.written_until)
        self._forget(name)
        self._kept[name] = version, overlay
        self._bytes += _size(overlay)
        while self._bytes > self._most_bytes and self._kept:
            self._forget(next(iter(self._kept)))
        return overlay

    def _forget(self, name: tuple[str, str]) -> None:
        if name in self._kept:
            self._bytes -= _size(self._kept.pop(name)[1])


def _size(overlay: Overlay | None) -> int:
    return _EMPTY_BYTES if overlay is None else overlay.nbytes()
