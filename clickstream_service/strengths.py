"""The strengths that are in force, and changing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from clickstream_service.domain.errors import StrengthsConflict, VersionNotFound
from clickstream_service.domain.strength import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from clickstream_service.domain.strength import Strength, Strengths


class StrengthStore(Protocol):
    """Where versions of strengths are kept; the one that is built in is not among them."""

    async def newest(self) -> Strengths | None:
        """Return the newest version; None when there is none."""

    async def get(self, version: int) -> Strengths | None:
        """Return a version; None when there is none such."""

    async def add(self, strengths: Strengths) -> bool:
        """Keep a new version durably; returns False when its number is taken."""


class StrengthVersions:
    """What can be done with strengths."""

    def __init__(self, store: StrengthStore, max_age: timedelta, now: Callable[[], datetime]) -> None:
        """A change that another instance of the service made is seen after `max_age` at the latest."""
        self._store = store
        self._max_age = max_age
        self._now = now
        self._known: tuple[datetime, Strengths] | None = None

    async def current(self) -> Strengths:
        """Return the strengths in force, as of up to `max_age` ago."""
        now = self._now()
        if self._known is not None and abs(now - self._known[0]) < self._max_age:
            return self._known[1]
        return self._remember(await self._newest(), now)

    async def get(self, version: int) -> Strengths:
        """Return a version, the newest for 0; raises `VersionNotFound`."""
        if version == 0:
            return self._remember(await self._newest(), self._now())
        found = BUILT_IN if version == BUILT_IN.version else await self._store.get(version)
        if found is None:
            raise VersionNotFound("there is no such version of strengths", field="version")
        return found

    async def update(
        self, strengths: Mapping[str, Strength], long_view_threshold: timedelta | None, expected_version: int
    ) -> Strengths:
        """Bring a new version into force; raises `StrengthsConflict` when it was based on another than the newest.

        With 0 for `expected_version` it is based on whatever is the newest.
        """
        while True:
            newest = await self._newest()
            if expected_version and newest.version != expected_version:
                facts = {"version": str(newest.version)}
                raise StrengthsConflict("was changed since", field="expected_version", facts=facts)
            now = self._now()
            # Whole milliseconds, as it is read again.
            at = now.replace(microsecond=now.microsecond // 1000 * 1000)
            changed = newest.changed(strengths, long_view_threshold, at)
            if await self._store.add(changed):
                return self._remember(changed, now)

    async def _newest(self) -> Strengths:
        return await self._store.newest() or BUILT_IN

    def _remember(self, strengths: Strengths, at: datetime) -> Strengths:
        # An answer that was under way while another call made a change may be older than what is known.
        if self._known is None or strengths.version >= self._known[1].version:
            self._known = (at, strengths)
        return self._known[1]
