"""Freezing a choice, so that it gives the same whenever it is exported."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from clickstream_service.domain.errors import SnapshotNotFound
from clickstream_service.domain.times import to_millisecond
from clickstream_service.domain.training_choice import TrainingSnapshot, snapshot_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from clickstream_service.domain.session import Struct
    from clickstream_service.domain.training_choice import TrainingChoice
    from clickstream_service.propensities import PropensityVersions
    from clickstream_service.strengths import StrengthVersions


class SnapshotStore(Protocol):
    """Where snapshots are kept."""

    async def add(self, snapshot: TrainingSnapshot) -> TrainingSnapshot:
        """Keep a snapshot durably, unless it is there, and return the one that is kept."""

    async def get(self, snapshot_id: str) -> TrainingSnapshot | None:
        """Return a snapshot; None when there is none such."""


class Snapshots:
    """What can be done with snapshots."""

    def __init__(
        self,
        store: SnapshotStore,
        strengths: StrengthVersions,
        propensities: PropensityVersions,
        now: Callable[[], datetime],
        settle: timedelta,
    ) -> None:
        """Writes that are under way, on any instance, are taken to be in after `settle`."""
        self._store = store
        self._strengths = strengths
        self._propensities = propensities
        self._now = now
        self._settle = settle

    async def create(self, choice: TrainingChoice, meta: Struct | None) -> TrainingSnapshot:
        """Freeze a choice; raises `VersionNotFound`.

        What comes in from now on is recorded later than it takes. What has its time already and is still on its way
        into the database is waited for: it would show up in a later export, and not in an earlier one.
        """
        filled, before = await self.filled(choice)
        await asyncio.sleep(self._settle.total_seconds())
        frozen = TrainingSnapshot(snapshot_id(filled, before), filled, before, to_millisecond(self._now()), meta)
        return await self._store.add(frozen)

    async def get(self, snapshot: str) -> TrainingSnapshot:
        """Return a snapshot; raises `SnapshotNotFound`."""
        found = await self._store.get(snapshot)
        if found is None:
            raise SnapshotNotFound("there is no such snapshot", field="snapshot_id")
        return found

    async def filled(self, choice: TrainingChoice) -> tuple[TrainingChoice, datetime]:
        """Return a choice with all filled in as of now, and the first time that is later; raises `VersionNotFound`.

        Times are kept to the millisecond, so the one that is running is taken whole.
        """
        before = to_millisecond(self._now()) + timedelta(milliseconds=1)
        surface = next(iter(choice.surfaces)) if len(choice.surfaces) == 1 else ""
        propensities = await self._propensities.chosen(choice.propensity_version, surface)
        strengths = await self._strengths.get(choice.strengths_version)
        version = 0 if propensities is None else propensities.version
        return choice.filled(before, version, strengths.version), before
