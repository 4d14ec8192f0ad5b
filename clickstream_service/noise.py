"""Finding noise among what came in, tagging it, or deleting it."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from clickstream_service.domain.noise import judge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from datetime import datetime

    from clickstream_service.domain.noise import Act, NoiseLimits

WRITTEN_AT_ONCE: Final = 500


class Action(StrEnum):
    """What to do with noise."""

    NOTHING = "nothing"
    TAG = "tag"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Tagged:
    """An event as it was found: the rules that it breaks, and those that it was tagged with."""

    act: Act
    rules: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass
class Cleaning:
    """What was looked at and found; no user, no session."""

    visitors: int = 0
    events: int = 0
    noise: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)
    tagged: int = 0
    """Events whose tags were changed, those whose tags were taken off included."""
    deleted: int = 0


class NoiseStore(Protocol):
    """Where events are judged."""

    def visitors(self, since: datetime | None) -> AsyncGenerator[list[tuple[Act, tuple[str, ...]]], None]:
        """Yield the events of each visitor with their tags; a visitor with very many comes in portions."""

    async def tag(self, events: Sequence[Tagged]) -> int:
        """Tag events with the rules they break, and queue the users of submitted sessions; returns how many."""

    async def delete(self, events: Sequence[Tagged]) -> int:
        """Delete events, and queue the users of submitted sessions; returns how many."""

    async def record(
        self, cleaning: Cleaning, *, action: str, by: str, since: datetime | None, began: datetime, ended: datetime
    ) -> None:
        """Keep who has cleaned what."""


class Cleaner:
    """Judges events, one visitor after another."""

    def __init__(self, store: NoiseStore, limits: NoiseLimits, now: Callable[[], datetime]) -> None:
        self._store = store
        self._limits = limits
        self._now = now

    async def clean(self, action: Action, since: datetime | None, by: str) -> Cleaning:
        """Look at all events since a time, and do something with noise; what was done is recorded, with `by` whom.

        Tags follow the rules: where an event breaks none any more, they are taken off.
        """
        began, cleaning = self._now(), Cleaning()
        waiting: list[Tagged] = []
        async with aclosing(self._store.visitors(since)) as visitors:
            async for events in visitors:
                waiting += self._judged(events, action, cleaning)
                while len(waiting) >= WRITTEN_AT_ONCE:
                    await self._write(waiting[:WRITTEN_AT_ONCE], action, cleaning)
                    del waiting[:WRITTEN_AT_ONCE]
        if waiting:
            await self._write(waiting, action, cleaning)
        if action is not Action.NOTHING:
            await self._store.record(cleaning, action=action, by=by, since=since, began=began, ended=self._now())
        return cleaning

    def _judged(
        self, events: Sequence[tuple[Act, tuple[str, ...]]], action: Action, cleaning: Cleaning
    ) -> list[Tagged]:
        """Count the events of a visitor, and return those to do something with."""
        tags = dict(events)
        judged = [Tagged(act, rules, tags[act]) for act, rules in judge(tags, self._limits)]
        noise = [event for event in judged if event.rules]
        cleaning.visitors += 1
        cleaning.events += len(judged)
        cleaning.noise += len(noise)
        cleaning.by_rule.update(rule for event in noise for rule in event.rules)
        if action is Action.TAG:
            return [event for event in judged if event.rules != event.tags]
        return noise if action is Action.DELETE else []

    async def _write(self, events: Sequence[Tagged], action: Action, cleaning: Cleaning) -> None:
        if action is Action.DELETE:
            cleaning.deleted += await self._store.delete(events)
        else:
            cleaning.tagged += await self._store.tag(events)
