"""The originals that some users' vectors are computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from improvement_service.domain.errors import CollectionNotFound
from improvement_service.domain.feedback import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from improvement_service.adjust.evidence import SessionSignals
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import Original
    from improvement_service.learning.ports import Originals
    from improvement_service.learning.reading import UserFeedback

OriginalsOf: TypeAlias = "dict[str, dict[str, Original]]"
"""The originals of each collection, by object."""


async def fetch(store: Originals, users: Sequence[UserFeedback], indexes: Mapping[str, SearchIndex]) -> OriginalsOf:
    """Return the originals that the users' sessions speak of, each read once whoever needs it.

    Sessions none of whose positives is there are left out.
    """
    originals: OriginalsOf = {}
    for name in dict.fromkeys(name for user in users for name in user.signals):
        needed = dict.fromkeys(
            o for user in users for signals in user.signals.get(name, ()) for o in objects_of(signals)
        )
        try:
            originals[name] = await store.fetch_originals(indexes[name], needed)
        except CollectionNotFound:
            # It was deleted a moment ago.
            _leave_out(users, name, Reason.UNKNOWN_COLLECTION)
            originals[name] = {}
    for user in users:
        for name, signals in user.signals.items():
            user.signals[name] = list(_known(user, signals, originals[name]))
    return originals


def objects_of(signals: SessionSignals) -> Iterable[str]:
    """Return the objects that a session may speak for or against; below the last positive it says nothing."""
    last = max((rank for object_id, rank in signals.results if object_id in signals.positives), default=0)
    above = (object_id for object_id, rank in signals.results if rank < last)
    return {*signals.positives, *signals.turned_down, *above}


def rows_of(user: UserFeedback, originals: OriginalsOf) -> int:
    """Return how many vectors there are to move for a user, at most."""
    return sum(
        len(originals[name][object_id].parts)
        for name, sessions in user.signals.items()
        for object_id in {object_id for signals in sessions for object_id in objects_of(signals)}
        if object_id in originals[name]
    )


def _known(
    user: UserFeedback, sessions: Iterable[SessionSignals], originals: Mapping[str, Original]
) -> Iterable[SessionSignals]:
    for signals in sessions:
        if any(object_id in originals for object_id in signals.positives):
            yield signals
        elif signals.session_id not in user.outcomes:
            user.leave_out(signals.session_id, Reason.NO_KNOWN_OBJECTS)


def _leave_out(users: Iterable[UserFeedback], name: str, reason: Reason) -> None:
    for user in users:
        for signals in user.signals.get(name, ()):
            user.leave_out(signals.session_id, reason)
