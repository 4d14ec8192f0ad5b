"""How likely results are to be looked at, as estimated from the recorded sessions, version by version."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from clickstream_service.domain.errors import VersionNotFound
from clickstream_service.domain.propensity import (
    Propensities,
    PropensityAssumption,
    PropensityMethod,
    RankPropensity,
)
from clickstream_service.domain.strength import CLICK, LONG_VIEW
from clickstream_service.domain.times import to_millisecond
from clickstream_service.domain.training import Selection
from clickstream_service.searches import Order
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from clickstream_service.domain.propensity import Trust
    from clickstream_service.domain.strength import Strengths
    from clickstream_service.domain.training import Search
    from clickstream_service.position_bias.counts import ClickCounts
    from clickstream_service.position_bias.estimate import Examination
    from clickstream_service.searches import SearchStore
    from clickstream_service.strengths import StrengthVersions

MAX_AGE: Final = timedelta(seconds=10)
"""How long after an estimate by another instance of the service this one may go by the one before."""
MAX_KNOWN: Final = 1_000

WINDOW: Final = timedelta(days=30)
RANKS: Final = 20


class PropensityStore(Protocol):
    """Where estimates are kept."""

    async def newest_version(self) -> int:
        """Return the newest version of all; 0 when there is none."""

    async def newest(self, surface: str, device: str) -> Propensities | None:
        """Return the newest estimate for just this surface and device; None when there is none."""

    async def get(self, version: int) -> Propensities | None:
        """Return a version; None when there is none such."""

    async def add(self, propensities: Propensities) -> bool:
        """Keep an estimate durably; returns False when its version is taken."""

    async def page(self, before: int | None, limit: int) -> list[Propensities]:
        """Return up to `limit` estimates older than a version, newest first."""


class PropensityVersions:
    """What can be done with propensities."""

    def __init__(
        self, store: PropensityStore, searches: SearchStore, strengths: StrengthVersions, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._searches = searches
        self._strengths = strengths
        self._now = now
        self._known: dict[tuple[str, str], tuple[datetime, Propensities | None]] = {}

    async def estimate(
        self, selection: Selection, max_rank: int, method: PropensityMethod | None, trust: Trust | None
    ) -> Propensities:
        """Estimate from the selected sessions, of the last 30 days unless it says otherwise, as a new version.

        Raises `InvalidField` when trust is given with a method that cannot use it, or does not fit the clicks.
        """
        # numpy takes a while to load, which nobody who starts a service should wait for.
        from clickstream_service.position_bias.counts import ClickCounts  # noqa: PLC0415

        now = to_millisecond(self._now())
        if selection.created_from is None:
            since = (selection.created_before or now) - WINDOW
            selection = Selection(since, selection.created_before, surface=selection.surface, device=selection.device)
        strengths = await self._strengths.get(0)
        counts = ClickCounts(max_rank or RANKS)
        async with aclosing(self._searches.searches(selection, Order.TIME)) as groups:
            async for group in groups:
                await asyncio.to_thread(_count, counts, group, strengths)
        found = await asyncio.to_thread(_estimate, counts, method, trust)
        while True:
            estimated = _propensities(found, await self._store.newest_version() + 1, selection, now)
            if await self._store.add(estimated):
                self._known.clear()
                return estimated

    async def get(self, version: int, surface: str = "", device: str = "") -> Propensities:
        """Return a version, the newest of a surface and device for 0; raises `VersionNotFound`."""
        found = await (self._store.get(version) if version else self._store.newest(surface, device))
        if found is None:
            raise VersionNotFound("there are no such propensities", field="version")
        return found

    async def chosen(self, version: int, surface: str) -> Propensities | None:
        """Return a version; for 0 the newest of a surface, or else of all; None when there is none yet.

        Raises `VersionNotFound` when a version is named that is not there.
        """
        if version:
            return await self.get(version)
        of_surface = await self._store.newest(surface, "") if surface else None
        return of_surface or await self._store.newest("", "")

    async def fitting(self, surface: str, device: str) -> Propensities | None:
        """Return the newest estimate for a surface and device, else for one of them, else for all; None without any.

        It is as of up to 10 s ago.
        """
        now = self._now()
        known = self._known.get((surface, device))
        if known is not None and abs(now - known[0]) < MAX_AGE:
            return known[1]
        found = None
        for scope in dict.fromkeys([(surface, device), (surface, ""), ("", device), ("", "")]):
            found = found or await self._store.newest(*scope)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[surface, device] = now, found
        return found

    async def page(self, before: int | None, limit: int) -> tuple[list[Propensities], bool]:
        """Return up to `limit` estimates older than a version, newest first, and whether there are more."""
        found = await self._store.page(before, limit + 1)
        return found[:limit], len(found) > limit


def _count(counts: ClickCounts, searches: Sequence[Search], strengths: Strengths) -> None:
    for search in searches:
        clicked = {
            action.object_id
            for action in search.actions
            if not {CLICK, LONG_VIEW}.isdisjoint(action.types) or strengths.weight(action.types, action.dwell) > 0
        }
        shown = [(rank, object_id, object_id in clicked) for object_id, rank in search.results]
        query = "" if search.query_key is None else search.query_key.hex()
        counts.add(search.user_id or search.session_id, query, shown)


def _estimate(counts: ClickCounts, method: PropensityMethod | None, trust: Trust | None) -> Examination:
    from clickstream_service.position_bias.estimate import Method, estimate  # noqa: PLC0415
    from clickstream_service.position_bias.trust import TrustBias  # noqa: PLC0415

    bias = None
    if trust is not None:
        try:
            bias = TrustBias(trust.click_if_relevant, trust.click_if_irrelevant)
        except ValueError as invalid:
            raise InvalidField(str(invalid), field="trust_bias") from invalid
    return estimate(counts, method=None if method is None else Method[method.name], trust=bias)


def _propensities(found: Examination, version: int, selection: Selection, now: datetime) -> Propensities:
    columns = zip(
        found.ranks.tolist(), found.examination.tolist(), found.low.tolist(), found.high.tolist(),
        found.impressions.tolist(), found.clicks.tolist(), strict=True,
    )  # fmt: skip
    return Propensities(
        version=version,
        surface=selection.surface,
        device=selection.device,
        ranks=tuple(RankPropensity(*row) for row in columns),
        method=PropensityMethod[found.method.name],
        session_count=found.sessions,
        effective_sample_size=float(found.effective_sample_size),
        below_floor=found.below_floor,
        trust_corrected=found.trust_corrected,
        background=float(found.background),
        assumption=PropensityAssumption[found.assumption.name],
        created_at=now,
    )
