"""How search is doing: metrics over time, by position and by type, and two periods side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from clickstream_service.domain import intervals, metrics
from clickstream_service.domain.errors import VersionNotFound
from clickstream_service.domain.hours import DAY, begin_of, day_of
from clickstream_service.domain.propensity import prior_examination
from clickstream_service.domain.signal import Comparison, Metric, Place, Point, Scope, Step, Value
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clickstream_service.domain.propensity import Propensities

MAX_POINTS: Final = 8_784
"""The hours of a leap year."""
NO_SUMS: Final = dict.fromkeys(metrics.SUMS, 0)


class SignalStore(Protocol):
    """Where rollups are read; each call raises `UnknownSegment`."""

    async def sums(self, scope: Scope, step: Step) -> dict[int, Mapping[str, int]]:
        """Return the sums that metrics are made of by the first hour of the step; steps without any are left out."""

    async def places(self, scope: Scope, max_positions: int) -> list[tuple[int, int]]:
        """Return impressions and clicks by position, `max_positions` of them."""

    async def types(self, scope: Scope, limit: int) -> list[tuple[str, int]]:
        """Return the most frequent types of events, and how often each happened."""


class Examination(Protocol):
    """How likely a result is to be looked at, by rank."""

    async def chosen(self, version: int, surface: str) -> Propensities | None:
        """Return a version; for 0 the newest of a surface, or else of all; None when there is none yet.

        Raises `VersionNotFound` when a version is named that is not there.
        """


class Signals:
    """What can be asked about searches as a whole."""

    def __init__(self, store: SignalStore, examination: Examination) -> None:
        self._store = store
        self._examination = examination

    async def metrics(self, scope: Scope, wanted: Sequence[Metric], step: Step) -> dict[Metric, list[Point]]:
        """Return a point for each step; raises `UnknownSegment`, and `InvalidField` when there are too many steps."""
        begins = _begins(scope, step)
        sums = await self._store.sums(scope, step)
        return {
            metric: [Point(begin_of(at), metrics.value(metric, sums.get(at, NO_SUMS))) for at in begins]
            for metric in wanted
        }

    async def value(self, scope: Scope, metric: Metric) -> tuple[Value, int]:
        """Return a metric, and the sessions of the scope."""
        sums = await self._sums(scope)
        return metrics.value(metric, sums), sums["sessions"]

    async def positions(self, scope: Scope, max_positions: int, version: int) -> tuple[int, list[Place]]:
        """Return the version of the propensities, 0 for the prior, and how often results are clicked by position.

        The de-biased rate, clicks / (impressions x theta), is that of results that are looked at. Its interval is that
        of the clicks: theta is taken as it is.
        """
        try:
            chosen = await self._examination.chosen(version, scope.surface)
        except VersionNotFound as unknown:
            raise VersionNotFound(str(unknown), field="propensity_version") from unknown
        theta = prior_examination if chosen is None else chosen.examination
        found = await self._store.places(scope, max_positions)
        return 0 if chosen is None else chosen.version, [
            Place(position, impressions, clicks, ctr, _divided(ctr, theta(position + 1)))
            for position, (impressions, clicks) in enumerate(found)
            for ctr in [intervals.rate(clicks, impressions)]
        ]

    async def types(self, scope: Scope, limit: int) -> list[tuple[str, int]]:
        """Return the most frequent types of events, and how often each happened."""
        return await self._store.types(scope, limit)

    async def compare(self, scope: Scope, baseline: Scope, wanted: Sequence[Metric]) -> list[Comparison]:
        """Return how far metrics are apart in two scopes."""
        one, other = await self._sums(scope), await self._sums(baseline)
        return [metrics.compare(metric, one, other) for metric in wanted]

    async def _sums(self, scope: Scope) -> Mapping[str, int]:
        return (await self._store.sums(scope, Step.ALL)).get(scope.since, NO_SUMS)


def _begins(scope: Scope, step: Step) -> Sequence[int]:
    if step is Step.ALL:
        return [scope.since]
    begins = range(scope.since, scope.before) if step is Step.HOUR else range(day_of(scope.since), scope.before, DAY)
    if len(begins) > MAX_POINTS:
        raise InvalidField(f"asks for more than {MAX_POINTS} steps", field=f"{scope.path}.from")
    return begins


def _divided(rate: Value, theta: float) -> Value:
    if rate.value is None:
        return rate
    return replace(rate, value=rate.value / theta, low=rate.low / theta, high=rate.high / theta)
