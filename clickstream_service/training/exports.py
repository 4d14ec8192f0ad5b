"""Streaming training data."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from clickstream_service.domain.propensity import prior_examination
from clickstream_service.domain.training import Selection
from clickstream_service.searches import Order
from clickstream_service.training.inputs import to_input
from clickstream_service.training.pairs import QueryPairs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from clickstream_service.domain.training import FineTuningInput, Search, TrainingPair
    from clickstream_service.domain.training_choice import TrainingChoice, TrainingSplit
    from clickstream_service.propensities import PropensityVersions
    from clickstream_service.searches import SearchStore
    from clickstream_service.strengths import StrengthVersions
    from clickstream_service.training.snapshots import Snapshots


class Training:
    """What is exported to train on."""

    def __init__(
        self,
        searches: SearchStore,
        snapshots: Snapshots,
        strengths: StrengthVersions,
        propensities: PropensityVersions,
    ) -> None:
        self._searches = searches
        self._snapshots = snapshots
        self._strengths = strengths
        self._propensities = propensities

    async def pairs(
        self, choice: TrainingChoice, snapshot_id: str, split: TrainingSplit | None
    ) -> AsyncGenerator[TrainingPair, None]:
        """Yield pairs by the key of the query, then by object; of a snapshot when one is named.

        In flat memory: one query's pairs are held at a time. A part of a split is made of its own sessions alone.
        Raises `SnapshotNotFound` and `VersionNotFound`.
        """
        if snapshot_id:
            snapshot = await self._snapshots.get(snapshot_id)
            filled, recorded_before = snapshot.choice, snapshot.recorded_before
        else:
            filled, recorded_before = await self._snapshots.filled(choice)
        strengths = await self._strengths.get(filled.strengths_version)
        examination = await self._examination(filled.propensity_version)
        selection = Selection(filled.created_from, filled.created_before, recorded_before)
        last: Search | None = None
        query = QueryPairs(filled, strengths, examination)
        async with aclosing(self._searches.searches(selection, Order.QUERY)) as groups:
            async for group in groups:
                for search in group:
                    if split is not None and not split.takes(search):
                        continue
                    if last is not None and search.query_key != last.query_key:
                        for pair in query.pairs(last):
                            yield pair
                        query = QueryPairs(filled, strengths, examination)
                    query.add(search)
                    last = search
        if last is not None:
            for pair in query.pairs(last):
                yield pair

    async def inputs(self, selection: Selection, strengths_version: int) -> AsyncGenerator[FineTuningInput, None]:
        """Yield sessions as inputs to fine-tune on: by number in a batch, else oldest first.

        Raises `VersionNotFound`.
        """
        strengths = await self._strengths.get(strengths_version)
        order = Order.BATCH if selection.batch_id else Order.TIME
        async with aclosing(self._searches.searches(selection, order)) as groups:
            async for group in groups:
                for search in group:
                    yield to_input(search, strengths)

    async def _examination(self, version: int) -> Callable[[int], float]:
        """Return the examination of a version; 0 is the prior."""
        return prior_examination if version == 0 else (await self._propensities.get(version)).examination
