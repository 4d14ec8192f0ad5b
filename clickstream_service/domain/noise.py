"""What is no sign of a person's taste: rules about the events of one visitor, each of which can be tried by itself.

A rule takes the events of a visitor (a user, or a session without one) in the order of time, and returns the places of
those that break it. Rules are guesses: what they find is tagged rather than deleted, and limits are settings.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

CLICK: Final = "click"
PURCHASE: Final = "purchase"
SEEN: Final = frozenset({"view", CLICK, "long_view"})
"""What comes before a purchase."""
MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class NoiseLimits:
    """From where on events are noise."""

    sources: frozenset[str] = frozenset(
        {"bot", "crawler", "load_test", "monitoring", "simulation", "synthetic", "test"}
    )
    """Sources that are no people, in lower case."""
    user_agents: tuple[str, ...] = (
        *("bot", "crawl", "spider", "slurp", "headless", "phantomjs", "selenium"),
        *("curl/", "wget/", "python-requests", "python-urllib", "scrapy", "go-http-client", "okhttp-probe"),
    )
    """What user agents of programs have in them, in lower case."""
    events_a_minute: int = 120
    """More than so many within a minute are too many."""
    fastest_click: timedelta = timedelta(milliseconds=200)
    """Nobody reads results and clicks on one within so short a time of the search, or of the click before."""
    fast_clicks: int = 3
    """So many such clicks in a row are no slip of the finger."""
    same_position_clicks: int = 30
    """So many clicks, all of them at one position below the first, are no choice."""
    same_position_sessions: int = 10
    """So many sessions they have to be spread over."""


@dataclass(frozen=True, slots=True)
class Act:
    """An event as the rules see it; `source` and `user_agent` are its own or its session's, in lower case."""

    session_id: str
    event_id: str
    at: datetime
    object_id: str
    types: tuple[str, ...]
    position: int | None = None
    source: str = ""
    user_agent: str = ""
    session_at: datetime | None = None


def source(acts: Sequence[Act], limits: NoiseLimits) -> set[int]:
    """Return those that say themselves that they come from a bot, a simulation or a test."""
    return {place for place, act in enumerate(acts) if act.source in limits.sources}


def user_agent(acts: Sequence[Act], limits: NoiseLimits) -> set[int]:
    """Return those whose user agent names a program."""
    return {place for place, act in enumerate(acts) if any(name in act.user_agent for name in limits.user_agents)}


def rate(acts: Sequence[Act], limits: NoiseLimits) -> set[int]:
    """Return those of which there are more within any minute than a person does."""
    found: set[int] = set()
    window: deque[int] = deque()
    for place, act in enumerate(acts):
        window.append(place)
        while act.at - acts[window[0]].at >= MINUTE:
            window.popleft()
        if len(window) > limits.events_a_minute:
            found.update([place] if place - 1 in found else window)
    return found


def fast_clicks(acts: Sequence[Act], limits: NoiseLimits) -> set[int]:
    """Return runs of clicks each of which came too soon after the one before, or after its search."""
    found: set[int] = set()
    run: list[int] = []
    before: Act | None = None
    for place, act in enumerate(acts):
        if CLICK not in act.types:
            continue
        # The same object again is a double click.
        after_click = before is not None and before.object_id != act.object_id and _soon(before.at, act.at, limits)
        if after_click or _soon(act.session_at, act.at, limits):
            run.append(place)
        else:
            run = []
        if len(run) >= limits.fast_clicks:
            found.update(run)
        before = act
    return found


def same_position(acts: Sequence[Act], limits: NoiseLimits) -> set[int]:
    """Return the clicks of a visitor all of whose clicks are at one and the same position below the first."""
    clicks = {place: act for place, act in enumerate(acts) if CLICK in act.types and act.position is not None}
    enough = (
        len(clicks) >= limits.same_position_clicks
        and len({act.session_id for act in clicks.values()}) >= limits.same_position_sessions
    )
    positions = {act.position for act in clicks.values()}
    return set(clicks) if enough and len(positions) == 1 and positions != {0} else set()


def impossible_order(acts: Sequence[Act], limits: NoiseLimits) -> set[int]:  # noqa: ARG001 - rules are called alike
    """Return purchases in a session in which the object was seen later, but not before.

    Where it was not seen in the session at all, it may have been seen somewhere else.
    """
    found: set[int] = set()
    seen: set[tuple[str, str]] = set()
    bought: dict[tuple[str, str], list[int]] = {}
    for place, act in enumerate(acts):
        if not (act.session_id and act.object_id):
            continue
        key = act.session_id, act.object_id
        if SEEN.intersection(act.types):
            found.update(bought.pop(key, ()))
            seen.add(key)
        elif PURCHASE in act.types and key not in seen:
            bought.setdefault(key, []).append(place)
    return found


RULES: Final[Mapping[str, Callable[[Sequence[Act], NoiseLimits], set[int]]]] = {
    rule.__name__: rule for rule in (source, user_agent, rate, fast_clicks, same_position, impossible_order)
}
"""All rules by name, which is how events are tagged."""


def judge(acts: Iterable[Act], limits: NoiseLimits) -> list[tuple[Act, tuple[str, ...]]]:
    """Return the events of a visitor in the order of time, each with the rules that it breaks."""
    ordered = sorted(acts, key=lambda act: (act.at, act.session_id, act.event_id))
    broken = sorted((place, name) for name, rule in RULES.items() for place in rule(ordered, limits))
    by_place = {place: tuple(name for _, name in group) for place, group in groupby(broken, key=lambda pair: pair[0])}
    return [(act, by_place.get(place, ())) for place, act in enumerate(ordered)]


def _soon(before: datetime | None, at: datetime, limits: NoiseLimits) -> bool:
    return before is not None and timedelta(0) <= at - before < limits.fastest_click
