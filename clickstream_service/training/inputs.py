"""A session as an input to fine-tune on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream_service.domain.training import FineTuningEvent, FineTuningInput

if TYPE_CHECKING:
    from clickstream_service.domain.strength import Strengths
    from clickstream_service.domain.training import Search


def to_input(search: Search, strengths: Strengths) -> FineTuningInput:
    """Return what was acted on in a session, most important first, and what was shown and not acted on.

    An object is as important as the sum of the strengths of all that was done with it. Of equally important ones the
    one that was acted on first comes first.
    """
    importance: dict[str, float] = {}
    types: dict[str, dict[str, None]] = {}
    for action in search.actions:
        if action.object_id:
            weight = strengths.weight(action.types, action.dwell)
            importance[action.object_id] = importance.get(action.object_id, 0.0) + weight
            types.setdefault(action.object_id, {}).update(dict.fromkeys(action.types))
    # Sorting is stable, and actions are oldest first.
    ordered = sorted(importance, key=lambda object_id: -importance[object_id])
    return FineTuningInput(
        search=search,
        events=tuple(FineTuningEvent(each, importance[each], tuple(types[each])) for each in ordered),
        not_events=tuple(object_id for object_id, _ in search.results if object_id not in importance),
    )
