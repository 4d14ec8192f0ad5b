"""From what sessions say to a user's copies. Plain computation: the run calls this in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import structlog

from improvement_service.adjust import registry
from improvement_service.adjust.evidence import angles, collect
from improvement_service.domain.objects import PersonalCopy, UserCopies
from improvement_service.domain.run import Turned
from tideline.rpc import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from improvement_service.adjust.evidence import Collected, Item, SessionSignals
    from improvement_service.adjust.registry import VectorsAdjuster
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import Original
    from improvement_service.domain.scoring import Doubles, Floats

_log = structlog.get_logger(__name__)


@dataclass
class Moved:
    """What became of some users' vectors in one collection."""

    copies: list[UserCopies] = field(default_factory=list)
    turned: dict[str, Turned] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """The users whose vectors could not be moved, and the kind of failure."""


class Mover:
    """Moves vectors with the adjusters of their collections."""

    def __init__(self, defaults: Mapping[str, Mapping[str, float]], device: str | None) -> None:
        """Take `defaults`, by adjuster, for parameters that a collection does not name."""
        self._defaults = defaults
        self._device = device

    def move(
        self, index: SearchIndex, users: Mapping[str, Sequence[SessionSignals]], originals: Mapping[str, Original]
    ) -> Moved:
        """Compute the copies of users from scratch; a user who cannot be computed does not hurt another."""
        try:
            return self._move(index, users, originals)
        except Exception as error:  # noqa: BLE001
            _log.warning("adjusting failed", users=len(users), adjuster=index.adjuster, **logs.describe(error))
            if len(users) == 1:
                return Moved(failed=dict.fromkeys(users, type(error).__name__))
        moved = Moved()
        for user_id, sessions in users.items():
            alone = self.move(index, {user_id: sessions}, originals)
            moved.copies += alone.copies
            moved.turned |= alone.turned
            moved.failed |= alone.failed
        return moved

    def _move(
        self, index: SearchIndex, users: Mapping[str, Sequence[SessionSignals]], originals: Mapping[str, Original]
    ) -> Moved:
        collected = collect(users, {object_id: original.parts for object_id, original in originals.items()})
        after = self._adjuster(index).adjust(collected.evidence)
        before = collected.evidence.vectors
        if after.shape != before.shape or not np.isfinite(after).all():
            raise ValueError("the adjuster returned rows of another shape, or numbers that are not finite")
        turned = angles(before, after)
        items: dict[str, list[Item]] = {user_id: [] for user_id in users}
        for item in collected.items:
            # What stayed where it was needs no copy.
            if not np.array_equal(before[_span(item)], after[_span(item)]):
                items[item.user_id].append(item)
        return Moved(
            [_copies(user_id, own, collected, after, originals) for user_id, own in items.items()],
            {user_id: _turned(own, turned) for user_id, own in items.items()},
        )

    def _adjuster(self, index: SearchIndex) -> VectorsAdjuster:
        parameters = {**self._defaults.get(index.adjuster, {}), **index.parameters}
        return registry.load(index.adjuster, index.metric, index.aggregation, parameters, self._device)


def _copies(
    user_id: str, items: Sequence[Item], collected: Collected, after: Floats, originals: Mapping[str, Original]
) -> UserCopies:
    """Return a user's copies and the queries they were learned from, no others."""
    sessions = sorted({session for item in items for session in item.sessions})
    number = {session: number for number, session in enumerate(sessions)}
    copies = tuple(
        PersonalCopy(
            object_id=item.object_id,
            base_hash=originals[item.object_id].base_hash,
            parts=after[_span(item)],
            learned_from=tuple(number[session] for session in item.sessions),
        )
        for item in items
    )
    return UserCopies(user_id, copies, collected.evidence.queries[sessions])


def _turned(items: Sequence[Item], turned: Doubles) -> Turned:
    rows = np.concatenate([turned[_span(item)] for item in items]) if items else np.zeros(0)
    return Turned(len(rows), float(rows.sum()), float(rows.max(initial=0.0)))


def _span(item: Item) -> slice:
    return slice(item.rows.start, item.rows.stop)
