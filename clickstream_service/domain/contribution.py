"""What one search, or one interaction without a search, adds to the rollups.

A pure function of a session and its events: whoever knows what was added before can take it back, so that data that
comes late, is deleted or stops to count never needs a recount.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from clickstream_service.domain.hours import day_of, hour_of
from clickstream_service.domain.strength import CLICK, LONG_VIEW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

MAX_EVENTS: Final = 5_000
"""So many events of a session count, the first ones; it bounds what one event that comes late costs."""
POSITIONS: Final = 100
"""Impressions and clicks are counted at so many positions."""
HIGH_RANKS: Final = 10
"""An object is shown high at these ranks."""

REFINEMENT: Final = "query_refinement"
PURCHASE: Final = "purchase"
ZERO_RESULTS: Final = "zero_results"

_SHOWN: Final = [
    [{"refs": 1, f"i{rank}": 1} for rank in range(HIGH_RANKS + 1)],
    [{"refs": 1, f"i{rank}": 1, f"s{rank}": 1} for rank in range(HIGH_RANKS + 1)],
]
"""What a result at a rank counts, which was not skipped, or was."""
_tuple: Final = tuple.__new__
_MILLISECOND: Final = timedelta(milliseconds=1)
_LONGEST_MS: Final = 366 * 24 * 3_600_000

Segments = tuple[tuple[str, str], ...]
Act = tuple[int, str, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What counts of a session; `results` are (object id, rank) in shown order."""

    created_at: datetime
    query_text: str
    results: Sequence[tuple[str, int]]


class EventFacts(NamedTuple):
    """What counts of an event; a tuple, as there are many."""

    created_at: datetime
    object_id: str
    types: Sequence[str]
    dwell: timedelta | None
    noise: bool


@dataclass(frozen=True, slots=True)
class Search:
    """What a session adds by itself; `ranks` and `clicked_ranks` are those of the first positions."""

    hour: int
    query_text: str
    ranks: tuple[int, ...]
    high_objects: tuple[str, ...]
    clicked_ranks: tuple[int, ...]
    lowest_click: int
    zero: bool
    clicked: bool
    refined: bool
    converted: bool
    first_rank: int
    """The rank of the first click; 0 when there is none, or none that is known."""
    first_wait_ms: int
    """How long the first click took; -1 without one."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What is added, under which surface and segments.

    `acts` counts events by (hour, object id, types, types by strength); `dwells` are (hour, n, sum, sum of squares) of
    milliseconds.
    """

    surface: str
    segments: Segments
    search: Search | None
    acts: tuple[tuple[Act, int], ...]
    dwells: tuple[tuple[int, int, int, int], ...]


class Kind(StrEnum):
    """What a rollup counts."""

    # That of an enumeration is looked up by name in Python, for each of the many keys that a kind is in.
    __hash__ = str.__hash__

    METRICS = "metrics"
    POSITIONS = "positions"
    TYPES = "types"
    SHOWN = "shown"
    QUERIES = "queries"
    ACTS_BY_HOUR = "acts_by_hour"
    ACTS_BY_DAY = "acts_by_day"
    TYPE_SETS = "type_sets"


class Key(NamedTuple):
    """Which rollup: of one hour, or of the day that begins with it."""

    kind: Kind
    segment: str
    value: str
    hour: int
    surface: str
    item: str = ""
    types: str = ""


def contribute(
    surface: str,
    segments: Segments,
    session: SessionFacts | None,
    events: Sequence[EventFacts],
    long_view_threshold: timedelta,
) -> Contribution | None:
    """Return what a session and its events, oldest first, add; None when that is nothing.

    Events count in the hour in which they happened, everything else in the hour of the search. Noise does not count,
    nor does a session with nothing else: whoever made its noise has searched, too.
    """
    counting = [event for event in events if not event.noise]
    if not counting and (session is None or events):
        return None
    dwells: dict[int, tuple[int, int, int]] = {}
    acts: Counter[Act] = Counter()
    for event in counting:
        hour = hour_of(event.created_at)
        types = tuple(sorted(event.types))
        acts[hour, event.object_id, types, _by_strength(types, event.dwell, long_view_threshold)] += 1
        if event.dwell is not None:
            n, total, squares = dwells.get(hour, (0, 0, 0))
            ms = _milliseconds(event.dwell)
            dwells[hour] = (n + 1, total + ms, squares + ms * ms)
    search = None if session is None else _search(session, counting)
    ordered = tuple(sorted(acts.items()))
    return Contribution(surface, segments, search, ordered, tuple((hour, *dwells[hour]) for hour in sorted(dwells)))


def counters(contribution: Contribution) -> Iterator[tuple[Key, Mapping[str, int]]]:
    """Yield what is added to which rollup; each of them counts by `refs` how often it was named, too."""
    surface, search = contribution.surface, contribution.search
    for segment, value in (("", ""), *contribution.segments):
        if search is not None:
            yield from _of_search(search, segment, value, surface)
        for hour, n, total, squares in contribution.dwells:
            key = Key(Kind.METRICS, segment, value, hour, surface)
            yield key, {"refs": 1, "dwell_n": n, "dwell_sum": total, "dwell_sq": squares}
        for (hour, _, types, _), n in contribution.acts:
            yield Key(Kind.METRICS, segment, value, hour, surface), {"refs": 1, "events": n}
            for each in types:
                yield Key(Kind.TYPES, segment, value, hour, surface, each), {"refs": 1, "n": n}
    for (hour, object_id, _, by_strength), n in contribution.acts:
        if object_id:
            count, types_key = {"refs": 1, "n": n}, type_set_key(by_strength)
            yield Key(Kind.ACTS_BY_HOUR, "", "", hour, "", object_id, types_key), count
            yield Key(Kind.ACTS_BY_DAY, "", "", day_of(hour), "", object_id, types_key), count
            yield Key(Kind.TYPE_SETS, "", "", day_of(hour), "", types_key), count


def type_set_key(types: Sequence[str]) -> str:
    """Return one string for some types, which `json.loads` takes apart again."""
    return json.dumps(types, ensure_ascii=False, separators=(",", ":"))


def _search(session: SessionFacts, events: Iterable[EventFacts]) -> Search:
    ranks = dict(session.results)
    seen: set[str] = set()
    clicked: set[int] = set()
    first: EventFacts | None = None
    nothing_shown = not ranks
    for event in events:
        seen.update(event.types)
        # Not every client says what it showed: where something was done to an object, there was one.
        nothing_shown = nothing_shown and not event.object_id
        if CLICK in event.types:
            first = first or event
            if event.object_id in ranks:
                clicked.add(ranks[event.object_id])
    return Search(
        hour=hour_of(session.created_at),
        query_text=session.query_text,
        ranks=tuple(rank for _, rank in session.results if rank <= POSITIONS),
        high_objects=tuple(object_id for object_id, rank in session.results if rank <= HIGH_RANKS),
        clicked_ranks=tuple(sorted(rank for rank in clicked if rank <= POSITIONS)),
        lowest_click=max(clicked, default=0),
        zero=nothing_shown or ZERO_RESULTS in seen,
        clicked=first is not None,
        refined=REFINEMENT in seen,
        converted=PURCHASE in seen,
        first_rank=0 if first is None else ranks.get(first.object_id, 0),
        first_wait_ms=-1 if first is None else _milliseconds(first.created_at - session.created_at),
    )


def _of_search(search: Search, segment: str, value: str, surface: str) -> Iterator[tuple[Key, Mapping[str, int]]]:
    hour, day = search.hour, day_of(search.hour)
    metrics = {"refs": 1, "sessions": 1}
    metrics |= {name: 1 for name in ("zero", "clicked", "refined", "converted") if getattr(search, name)}
    if search.first_rank:
        metrics |= {"rank_n": 1, "rank_sum": search.first_rank, "rank_sq": search.first_rank**2}
    if search.first_wait_ms >= 0:
        metrics |= {"wait_n": 1, "wait_sum": search.first_wait_ms, "wait_sq": search.first_wait_ms**2}
    yield Key(Kind.METRICS, segment, value, hour, surface), metrics
    if search.ranks:
        places = {f"i{rank}": 1 for rank in search.ranks} | {f"c{rank}": 1 for rank in search.clicked_ranks}
        yield Key(Kind.POSITIONS, segment, value, hour, surface), places | {"refs": 1}
    if search.query_text:
        counts = {"refs": 1, "n": 1, "clicked": int(search.clicked), "zero": int(search.zero)}
        yield Key(Kind.QUERIES, segment, value, day, surface, search.query_text), counts
    clicked = set(search.clicked_ranks)
    for object_id, rank in zip(search.high_objects, search.ranks, strict=False):
        skipped = rank < search.lowest_click and rank not in clicked
        # Like `Key(...)`, which takes twice as long, and there are many of these.
        yield _tuple(Key, (Kind.SHOWN, segment, value, day, surface, object_id, "")), _SHOWN[skipped][rank]


def _by_strength(types: tuple[str, ...], dwell: timedelta | None, threshold: timedelta) -> tuple[str, ...]:
    """Return the types that an event has by how long it lasted, too."""
    if dwell is None or dwell < threshold or CLICK not in types or LONG_VIEW in types:
        return types
    return tuple(sorted((*types, LONG_VIEW)))


def _milliseconds(time: timedelta) -> int:
    return min(max(time // _MILLISECOND, 0), _LONGEST_MS)
